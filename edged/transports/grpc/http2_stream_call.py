"""A gRPC call of many messages, between HTTP/2 and whoever answers it.

Decides when the client has to wait with its messages, and when who answers with his.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from edged.protocol.frames import Buffer
from edged.protocol.grpc_call import Head, Incoming, Reply, Status
from edged.protocol.grpc_wire import (
    HEAD,
    CallError,
    MessageReader,
    encode_only,
    encode_prefix,
    encode_tail,
)
from edged.protocol.http2_streams import STREAM_ROOM, Stream

if TYPE_CHECKING:
    from edged.transports.grpc.http2_calls import Calls

_AHEAD_BYTES: Final = 64 << 10
"""Answers that wait for the client's window before no more are made: one read of a client."""


class StreamCall:
    """One call; satisfies ``protocol.grpc_call.Outgoing``.

    Args:
        calls: of its connection.
        stream: what it came over.
        head: how it began.
        coding: of its messages.
    """

    def __init__(self, calls: Calls, stream: Stream, head: Head, coding: int) -> None:
        self.calls = calls
        self.stream = stream
        self.head = head
        self.reader = MessageReader(calls.max_message_bytes, coding)
        self.taken = 0
        """Messages that have come."""
        self.is_open = True
        self.timer: asyncio.TimerHandle | None = None
        self.reserved = 0
        self._incoming: Incoming | None = None
        self._ready: deque[Buffer] = deque()
        self._is_paused = self._has_begun = self._is_held = False
        self._is_delivering = self._is_half_closed = self._is_closed = False

    @property
    def is_unfinished(self) -> bool:
        """A message has begun and is not whole."""
        return self.reader.missing > 0 and not self._is_paused

    def on_data(self, data: bytes) -> None:
        """A piece of the messages."""
        if self._incoming is None:
            self.timer = self.calls.timer(self)
            self._incoming = self.calls.service.open(self.head, self)
        if data:
            found = self.reader.feed(data)
            for _ in found:
                self.calls.streams.earn_message()
            self.taken += len(found)
            self._ready.extend(found)
            if found and self.reserved:
                self.calls.free_room(self)
        if self.stream.is_over_in and self.reader.missing:
            raise CallError(Status.INTERNAL, "the call ended before its message was whole")
        self._deliver()

    def send(self, parts: list[Buffer]) -> None:
        """One message to the client."""
        if not self.is_open:
            return
        streams = self.calls.streams
        if not self._has_begun:
            self._has_begun = True
            streams.begin(self.stream, HEAD)
        streams.send(self.stream, [encode_prefix(parts)[0], *parts])
        self.balance()
        self.calls.written()

    def end(self, reply: Reply) -> None:
        """The last thing that is said."""
        if not self.is_open:
            return
        self.is_open = False
        self.calls.streams.finish(self.stream, self._ending(reply))
        self._close()
        self.calls.written()

    def pause_reading(self) -> None:
        """Deliver no more messages for now: the client's window is not opened again."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """Deliver again."""
        self._is_paused = False
        self._deliver()
        self.calls.written()

    def balance(self) -> None:
        """Have answers made as fast as the client takes them."""
        incoming = self._incoming
        if incoming is None or not self.is_open:
            return
        is_full = self.calls.is_held or self.stream.size > _AHEAD_BYTES
        if is_full != self._is_held:
            self._is_held = is_full
            if is_full:
                incoming.hold()
            else:
                incoming.release()

    def on_lost(self) -> None:
        """There is nobody to answer."""
        self.is_open = False
        self._ready.clear()
        if self._incoming is not None:
            self._incoming.cancel()
        self._close()

    def fail(self, reply: Reply) -> None:
        """End it ourselves."""
        if self.is_open:
            self.calls.streams.finish(self.stream, self._ending(reply))
            self.on_lost()

    def _ending(self, reply: Reply) -> bytes:
        return encode_tail(reply) if self._has_begun else encode_only(reply)

    def _deliver(self) -> None:
        """Give what is there, in order; a message may pause us in its turn."""
        incoming = self._incoming
        if incoming is None or self._is_delivering:
            return
        self._is_delivering = True
        try:
            while self._ready and not self._is_paused and self.is_open:
                incoming.message(self.reader.unpacked(self._ready.popleft()))
        except CallError as exc:
            # Of one that waited, which somebody else's answer lets in: nobody around us knows.
            self.fail(Reply([], exc.status, exc.text))
        finally:
            self._is_delivering = False
        if self._is_paused or not self.is_open:
            return
        stream = self.stream
        if not stream.is_over_in:
            self._make_room()
        elif not self._is_half_closed:
            self._is_half_closed = True
            incoming.half_close()

    def _make_room(self) -> None:
        missing, room = self.reader.missing, self.stream.room
        if missing > room:
            self.calls.make_room(self, self.stream, missing)
            return
        if room < STREAM_ROOM >> 1:
            self.calls.streams.grant(self.stream, STREAM_ROOM - room)

    def _close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self.calls.close(self)
