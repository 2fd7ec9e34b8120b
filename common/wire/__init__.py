"""The reading side of our own protocol: what the gateway and the client need to use a server.

It is the counterpart of `common.protocol`, which says what the messages are. It needs no package
of the server.
"""
