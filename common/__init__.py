"""What the three services would otherwise write three times. Imports no model library."""

__version__ = "0.1.0"
