"""Transports: sockets to protocol and back. Each calls the dataplane only."""
