"""Holds what every service is built from: its app, lifecycle, admission, errors, sockets."""
