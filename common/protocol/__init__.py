"""The messages of the wire contract, one module for each interface."""
