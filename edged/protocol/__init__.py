"""Protocols: bytes to messages and back. No socket, clock, thread or file in here."""
