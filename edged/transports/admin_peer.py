"""One client of the administrators' socket, which speaks the native protocol, HTTP or gRPC.

Decides which by the first bytes, once; from then on the connection is the one or the other's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from edged.protocol.frames import MAGIC
from edged.transports.native.peer import Connection

if TYPE_CHECKING:
    from edged.transports.native.uds import UnixServer

Other = Callable[[bytes], asyncio.Protocol]
GRPC = b"PRI "
"""What HTTP/2 begins with, and no method of HTTP."""
_READ_BYTES = 4096
"""Of the first reads: less than a frame reader takes at once, so it takes all of it."""


class AdminConnection(Connection):
    """See above; a native connection until something else is said.

    Args:
        server: of the native protocol.
        other: makes the protocol for who speaks something else, by the first bytes.
    """

    def __init__(self, server: UnixServer, other: Other) -> None:
        super().__init__(server)
        self._other = other
        self._first: bytearray | None = bytearray()
        """What came before it was known what is spoken; None from then on."""
        self._buffer = bytearray(_READ_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        """As the native one's; a buffer of our own while we listen."""
        return memoryview(self._buffer) if self._first is not None else super().get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        """Listen, and then hand over."""
        if self._first is None:
            super().buffer_updated(nbytes)
            return
        self._first += self._buffer[:nbytes]
        start = bytes(self._first[: len(MAGIC)])
        if not MAGIC.startswith(start) and (start == GRPC or not GRPC.startswith(start)):
            self._hand_over(bytes(self._first))
        elif len(start) == len(MAGIC):
            first, self._first, self._buffer = self._first, None, bytearray()
            super().get_buffer(-1)[: len(first)] = first
            super().buffer_updated(len(first))

    def _hand_over(self, first: bytes) -> None:
        transport, other = cast(asyncio.Transport, self._transport), self._other(first)
        if transport.is_closing():
            return
        self._first, self._buffer = None, bytearray()
        self.connection_lost(None)  # for us it is over
        transport.set_protocol(other)
        other.connection_made(transport)
        if not transport.is_closing():
            other.data_received(first)
