"""A server of HTTP/2 that answers whole requests, for tools that ask one: our connection, no gRPC.

The endpoint itself answers what is no call of gRPC before its body has come, as it may, and such
tools wait for what they are told only of a request that goes on.
"""

from __future__ import annotations

import asyncio
import time
from typing import cast

from edged.protocol.http2 import Connection
from edged.protocol.http2_headers import encode_header
from edged.protocol.http2_streams import Stream

_HEAD = encode_header(b":status", b"200")
_TAIL = encode_header(b"done", b"yes")


class Echo(asyncio.Protocol):
    """One connection; ends it when a rule was broken."""

    def __init__(self) -> None:
        self.connection = Connection(self)
        self._bodies: dict[int, bytes] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._write()

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        has_more = self.connection.receive(data, now_ns)
        while has_more:
            has_more = self.connection.go_on(now_ns)
        self._write()
        if self.connection.failure is not None:
            self._transport.close()

    def on_open(self, stream: Stream) -> None:
        self._bodies[stream.number] = b""
        if stream.is_over_in:
            self._answer_soon(stream)

    def on_data(self, stream: Stream, data: bytes) -> None:
        self._bodies[stream.number] += data
        if stream.is_over_in:
            self._answer_soon(stream)

    def on_reset(self, stream: Stream) -> None:
        del self._bodies[stream.number]
        self.connection.streams.release()

    def _answer_soon(self, stream: Stream) -> None:
        # Not at once: more may be asked for than is taken at a time.
        asyncio.get_running_loop().call_later(0.05, self._answer, stream)

    def _answer(self, stream: Stream) -> None:
        if stream.number not in self._bodies or self._transport.is_closing():
            return
        body = self._bodies.pop(stream.number) or b"echo"
        streams = self.connection.streams
        streams.answer(stream, _HEAD, [body], len(body), _TAIL)
        streams.release()
        self._write()

    def _write(self) -> None:
        out = self.connection.out
        data = b"".join(out)
        out.clear()
        self._transport.write(data)
