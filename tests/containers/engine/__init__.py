"""This package starts a container engine for the tests where there is none."""
