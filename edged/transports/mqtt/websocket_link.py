"""A broker's connection inside a WebSocket: a transport to the link, a protocol to the socket."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from edged.errors import RemoteProtocolError
from edged.protocol.websocket import WebSocket
from edged.transports.mqtt.link import BrokerLink, waiting_bytes

NUDGE_S = 0.005
"""mosquitto 2.0 writes 4,096 bytes of a frame and the next when it is woken, by something that it
reads or after 0.1 s: 2.4 s for 100 kB. Where the rest of a frame stays away so long we wake it."""
PIECE_BYTES = 4096
"""It reads as much at a time, and of some longer frames the end only when it is woken again."""
MOST_NUDGE_S = 0.32
"""Twice as long after each time that nothing came of it: then it is the network that is slow."""


class WebSocketLink(asyncio.Protocol, asyncio.Transport):
    """See above.

    Args:
        link: what is carried; it is told of the connection when the handshake is done.
        socket: not begun.
    """

    def __init__(self, link: BrokerLink, socket: WebSocket) -> None:
        super().__init__()
        self._link = link
        self._socket = socket
        self._outer: asyncio.Transport | None = None
        self._is_told = False
        self._nudge_timer: asyncio.TimerHandle | None = None
        self._nudge_s = NUDGE_S

    # Called by the socket's transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._outer = outer = cast("asyncio.Transport", transport)
        outer.write(self._socket.take())

    def data_received(self, data: bytes) -> None:
        """Bytes came: frames, or the answer to the handshake."""
        self._stop_nudging()
        self._nudge_s = NUDGE_S
        try:
            inner = self._socket.receive(data)
        except RemoteProtocolError as exc:
            self._link.words = self._link.words or exc.message
            self.abort()
            return
        if self._socket.is_open and not self._is_told:
            self._is_told = True
            self._link.connection_made(self)
        if self._outer is not None and (said := self._socket.take()):
            self._outer.write(said)
        view = memoryview(inner)
        while view and not self._link.is_gone:
            buffer = self._link.get_buffer(-1)
            count = min(len(buffer), len(view))
            buffer[:count] = view[:count]
            self._link.buffer_updated(count)
            view = view[count:]
        if self._socket.is_closed:
            self.close()
        elif self._socket.is_in_frame and self._nudge_timer is None:
            self._nudge_later()

    def _nudge_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._nudge_timer = loop.call_later(self._nudge_s, self._nudge)

    def _nudge(self) -> None:
        self._nudge_timer = None
        if self._outer is None or self._link.is_gone:
            return
        self._outer.write(self._socket.nudge())
        if self._socket.is_in_frame:
            self._nudge_s = min(2 * self._nudge_s, MOST_NUDGE_S)
            self._nudge_later()

    def _stop_nudging(self) -> None:
        if self._nudge_timer is not None:
            self._nudge_timer.cancel()
            self._nudge_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever wanted it."""
        self._stop_nudging()
        self._link.connection_lost(exc)

    def pause_writing(self) -> None:
        """The broker does not read."""
        self._link.pause_writing()

    def resume_writing(self) -> None:
        """It reads again."""
        self._link.resume_writing()

    # Called by the link

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """One frame for one turn of the loop."""
        if self._outer is not None:
            frame = self._socket.wrap(bytes(data))
            self._outer.write(frame)
            if len(frame) > PIECE_BYTES and self._nudge_timer is None:
                self._nudge_later()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Of the socket's transport."""
        if self._outer is not None:
            self._outer.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Of the socket's transport."""
        return waiting_bytes(self._outer) if self._outer is not None else 0

    def close(self) -> None:
        """Close when all is written."""
        if self._outer is not None:
            self._outer.close()

    def abort(self) -> None:
        """Close at once."""
        if self._outer is not None:
            self._outer.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Of the socket's transport."""
        return default if self._outer is None else self._outer.get_extra_info(name, default)
