"""Holds what the services and the client share. It imports no model library."""

__version__ = "0.1.0"
