"""The native protocol on a Unix socket: ``uds`` listens, and each client is a ``peer``."""
