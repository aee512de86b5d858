"""A socket that reads ahead and writes many packets at once, for a library that asks byte by byte.

paho takes three reads for a packet and a write for each it sends. Every one is a call of the
operating system in which the interpreter lock changes hands: that cost a third of what a message
cost. Used by one thread only.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections import deque

READ_BYTES = 64 << 10
"""How far it reads ahead; whoever asks for more at once is not made to take it in pieces."""
WAITING_BYTES = 256 << 10
"""So much may wait to be written before ``send`` says that it would block."""
LAST_WORDS_S = 1.0
"""How long closing may wait for a peer that does not read what was sent last."""

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class BufferedSocket:
    """A connected socket that does not block, as paho sees it.

    Args:
        sock: plain or TLS; closed with this.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._ahead = b""
        self._at = 0
        self._waiting: deque[bytes | bytearray] = deque()
        self._waiting_bytes = 0
        self.taken_bytes = 0
        """All that ``send`` took."""

    def fileno(self) -> int:
        """The descriptor, or -1 once it is closed."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """As of a socket."""
        self._sock.setblocking(flag)

    def pending(self) -> int:
        """Bytes that were received and wait here or in the TLS layer, where no poll sees them."""
        here = len(self._ahead) - self._at
        return here or (self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0)

    @property
    def waiting(self) -> int:
        """Bytes that wait to be written."""
        return self._waiting_bytes

    def recv(self, size: int) -> bytes:
        """Up to so many bytes; none at the end. Raises as a socket does."""
        at, ahead = self._at, self._ahead
        if at == len(ahead):
            if size >= READ_BYTES:
                return self._sock.recv(size)
            self._ahead = ahead = self._sock.recv(READ_BYTES)
            at = 0
        self._at = min(at + size, len(ahead))
        return ahead[at : self._at]

    def send(self, data: bytes | bytearray) -> int:
        """Take bytes for the next ``flush``; the caller must not change them any more.

        Raises:
            BlockingIOError: too much waits already.
        """
        if self._waiting_bytes >= WAITING_BYTES:
            self.flush()
            if self._waiting_bytes >= WAITING_BYTES:
                raise BlockingIOError
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self.taken_bytes += len(data)
        return len(data)

    def flush(self) -> bool:
        """Write what waits, as far as the socket takes it; raises OSError. Returns: all of it."""
        while self._waiting:
            data = b"".join(self._waiting) if len(self._waiting) > 1 else self._waiting[0]
            try:
                sent = self._sock.send(data)
            except _WOULD_BLOCK:
                sent = 0
            self._waiting.clear()
            self._waiting_bytes = len(data) - sent
            if self._waiting_bytes:
                # The same bytes in front again: TLS insists on it after a write that was put off.
                self._waiting.append(data[sent:] if sent else data)
            if not sent:
                break
        return not self._waiting

    def close(self) -> None:
        """Say the last words, a DISCONNECT as a rule, and close."""
        with contextlib.suppress(OSError):
            if not self.flush():
                self._sock.settimeout(LAST_WORDS_S)
                self._sock.sendall(b"".join(self._waiting))
        self._sock.close()
