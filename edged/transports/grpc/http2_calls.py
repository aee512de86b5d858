"""The calls of one gRPC connection, between HTTP/2 and whoever answers them.

Decides when a call is whole, how much of it may lie here and when it is given up; never reads or
writes a socket.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from edged.protocol.frames import Buffer
from edged.protocol.grpc_call import Head, Reply, Service, Shape, Status, Withdrawal
from edged.protocol.grpc_wire import (
    HEAD,
    PREFIX_BYTES,
    TAIL,
    Asking,
    CallError,
    MessageReader,
    encode_only,
    encode_prefix,
    encode_tail,
)
from edged.protocol.http2 import Connection
from edged.protocol.http2_short import ShortReads
from edged.protocol.http2_streams import STREAM_ROOM, Stream
from edged.transports.grpc.http2_stream_call import StreamCall

log = logging.getLogger("edged.grpc")

_UNKNOWN: Final = Reply([], Status.UNIMPLEMENTED, "there is no such method")
_FULL: Final = Reply(
    [], Status.RESOURCE_EXHAUSTED,
    "answers of this connection wait to be read (limits.max_unread)",
)  # fmt: skip
_STOPS: Final = Reply([], Status.UNAVAILABLE, "the daemon stops")
_MESSAGES: Final = 2
"""Of the longest that is allowed, for one connection: so many may lie here at once, of calls that
are not answered. A client with more of them sends the next when one has been."""


class UnaryCall:
    """A call of one message and one answer.

    Args:
        calls: of its connection.
        stream: what it came over.
        head: how it began.
        coding: of its message.
    """

    __slots__ = (
        "calls", "coding", "head", "is_asked", "is_open", "messages", "reader", "reserved",
        "stream", "timer", "withdrawal",
    )  # fmt: skip

    def __init__(self, calls: Calls, stream: Stream, head: Head, coding: int) -> None:
        self.calls = calls
        self.stream = stream
        self.head = head
        self.coding = coding
        self.reader: MessageReader | None = None
        self.messages: list[Buffer] = []
        self.is_open = True
        """There is somebody to tell what comes of it."""
        self.is_asked = False
        self.withdrawal: Withdrawal | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.reserved = 0

    def on_data(self, data: bytes) -> None:
        """A piece of the message; the last one asks."""
        calls, stream = self.calls, self.stream
        size = len(data) - PREFIX_BYTES
        if (
            stream.is_over_in
            and self.reader is None
            and 0 <= size <= calls.max_message_bytes
            and int.from_bytes(data[:PREFIX_BYTES], "big") == size
        ):
            self._ask(data[PREFIX_BYTES:])
            return
        reader = self.reader
        if reader is None:
            reader = self.reader = MessageReader(calls.max_message_bytes, self.coding)
        found = reader.feed(data)
        self.messages += found
        if len(self.messages) > 1:
            raise CallError(Status.UNIMPLEMENTED, "the method takes one message, not more")
        if not stream.is_over_in:
            if self.timer is None:
                self.timer = calls.timer(self)
            calls.make_room(self, stream, reader.missing)
        elif not self.messages or reader.missing:
            raise CallError(Status.INTERNAL, "the call ended before its message was whole")
        else:
            calls.streams.earn_message()
            self._ask(reader.unpacked(self.messages.pop()))

    def _ask(self, message: Buffer) -> None:
        self.is_asked = True
        self.withdrawal = self.calls.service.ask(self.head, message, self.on_reply)
        if self.is_open and self.withdrawal is not None and self.timer is None:
            self.timer = self.calls.timer(self)

    def on_reply(self, reply: Reply) -> None:
        """What came of it."""
        calls = self.calls
        calls.close(self)
        if not self.is_open:
            return
        self.is_open = False
        if reply.status:
            calls.streams.finish(self.stream, encode_only(reply))
        else:
            parts = reply.parts
            prefix, size = encode_prefix(parts)
            tail = encode_tail(reply) if reply.trailers else TAIL
            calls.streams.answer(self.stream, HEAD, [prefix, *parts], size, tail)
        calls.written()

    def on_lost(self) -> None:
        """There is nobody to answer."""
        self.is_open = False
        if not self.is_asked:
            self.calls.close(self)
        elif self.withdrawal is not None:
            self.withdrawal.cancel()

    def fail(self, reply: Reply) -> None:
        """Answer it ourselves, whatever comes of it."""
        if self.is_open:
            self.calls.streams.finish(self.stream, encode_only(reply))
            self.on_lost()

    @property
    def is_unfinished(self) -> bool:
        """Its message is not whole."""
        return not self.is_asked


Call = UnaryCall | StreamCall


class Calls:
    """All calls of one connection.

    Args:
        service: answers them.
        on_output: told that something is to be written, now or at the end of the turn.
        max_message_bytes: the longest message.
        max_unread_bytes: how much may wait for a client to read it before calls are refused.
    """

    def __init__(
        self,
        service: Service,
        on_output: Callable[[], None],
        *,
        max_message_bytes: int,
        max_unread_bytes: int,
    ) -> None:
        self.origin = "grpc"
        self.refusal = b""
        """What every call is told, in the place of whatever it asks; empty where it is asked."""
        self.service = service
        self.max_message_bytes = max_message_bytes
        self.connection = Connection(self)
        self.streams = self.connection.streams
        self.short = ShortReads(self.connection)
        self.live: set[Call] = set()
        self._streaming: set[StreamCall] = set()
        self._loop = asyncio.get_running_loop()
        self._on_output = on_output
        self._max_unread_bytes = max_unread_bytes
        self._room = _MESSAGES * max_message_bytes
        self._waiting: deque[tuple[Call, int]] = deque()
        self._is_held = False

    def on_open(self, stream: Stream) -> None:
        """A call has begun."""
        request = stream.request
        known = request.meaning
        if self.refusal:
            self._refuse(stream, self.refusal)
            return
        if known is None:
            asking = Asking(request)
            shape = self.service.shape(asking.path) if asking.refusal is None else None
            head = Head(asking.path, None, self.origin, asking.metadata)
            known = request.meaning = (asking, shape, head)
        asking, shape, head = known
        if asking.refusal is not None:
            self._refuse(stream, asking.refusal)
            return
        if shape is None:
            self._refuse(stream, encode_only(_UNKNOWN))
            return
        if self.streams.outflow.waiting_bytes > self._max_unread_bytes:
            self._refuse(stream, encode_only(_FULL))
            return
        if asking.timeout_ns is not None:
            deadline_ns = time.monotonic_ns() + asking.timeout_ns
            head = Head(head.path, deadline_ns, head.origin, head.metadata)
        call: Call
        if shape is Shape.UNARY:
            call = UnaryCall(self, stream, head, asking.coding)
        else:
            call = StreamCall(self, stream, head, asking.coding)
            self._streaming.add(call)
        stream.owner = call
        self.live.add(call)
        if stream.is_over_in:
            self.on_data(stream, b"")
        elif isinstance(call, StreamCall):
            self._guarded(call, b"")

    def answer_alone(self, data: bytes) -> bytes | None:
        """The whole answer to bytes that are one whole call, known and answered on the spot."""
        found = None if self.refusal else self.short.find(data)
        if found is None:
            return None
        known = found.request.meaning
        if known is None:
            return None
        asking, shape, head = known
        if shape is not Shape.UNARY or asking.refusal is not None or asking.coding:
            return None
        try:
            message = self.service.ask_alone(head, found.message)
        except Exception:
            # Nothing has been said yet; the long way says what is wrong.
            log.exception("a call of %s could not be answered on the spot", self.origin)
            return None
        return None if message is None else self.short.answer(found, message)

    def on_data(self, stream: Stream, data: bytes) -> None:
        """A piece of a call's messages."""
        call = cast("Call | None", stream.owner)
        if call is not None and call.is_open:
            self._guarded(call, data)

    def on_reset(self, stream: Stream) -> None:
        """The client has given a call up."""
        call = cast("Call | None", stream.owner)
        if call is not None and call.is_open:
            call.on_lost()

    def _guarded(self, call: Call, data: bytes) -> None:
        try:
            call.on_data(data)
        except CallError as exc:
            call.fail(Reply([], exc.status, exc.text))
        except Exception:
            log.exception("a call of %s could not be handled", self.origin)
            text = "the call could not be handled; see the daemon's log"
            call.fail(Reply([], Status.INTERNAL, text))

    def timer(self, call: Call) -> asyncio.TimerHandle | None:
        """Ends a call when its time is over; None where it has no deadline."""
        if call.head.deadline_ns is None:
            return None
        left_s = (call.head.deadline_ns - time.monotonic_ns()) / 1e9
        return self._loop.call_later(max(left_s, 0.0), self._on_deadline, call)

    def make_room(self, call: Call, stream: Stream, missing: int) -> None:
        """Let the client send the rest of a long message, as soon as there is room for it."""
        if missing <= stream.room:
            return
        if call.reserved:
            if all(one is not call for one, _ in self._waiting):
                # Padding took of it, which is not kept.
                self.streams.grant(stream, missing - stream.room)
            return
        call.reserved = missing
        if not self._waiting and missing <= self._room:
            self._grant(call, missing)
        else:
            self._waiting.append((call, missing))

    def free_room(self, call: Call) -> None:
        """What a long message took is free."""
        if not call.reserved:
            return
        waiting = self._waiting
        if any(one is call for one, _ in waiting):
            self._waiting = waiting = deque(each for each in waiting if each[0] is not call)
        else:
            self._room += call.reserved
        call.reserved = 0
        while waiting and waiting[0][1] <= self._room:
            self._grant(*waiting.popleft())

    def close(self, call: Call) -> None:
        """A call is done with: whoever answers it has said so, or was never asked."""
        self.live.discard(call)
        if self._streaming and isinstance(call, StreamCall):
            self._streaming.discard(call)
        self.streams.release()
        if call.timer is not None:
            call.timer.cancel()
        if call.reserved:
            self.free_room(call)

    def written(self) -> None:
        """Something is to be written."""
        self._on_output()

    def end_streams(self) -> None:
        """The daemon stops: say so in calls that would go on."""
        for call in list(self._streaming):
            call.fail(_STOPS)

    def end_all(self) -> None:
        """The client is gone."""
        for call in list(self.live):
            if call.is_open:
                call.on_lost()

    def hold(self, is_held: bool) -> None:
        """The client does not read from the socket, or does again."""
        self._is_held = is_held
        self.relieve()

    def relieve(self) -> None:
        """Windows have grown, or shrunk: streams whose answers have left may make more."""
        for call in list(self._streaming):
            call.balance()

    @property
    def is_held(self) -> bool:
        """The client does not read from the socket."""
        return self._is_held

    def unfinished(self) -> set[tuple[Call, int]]:
        """Calls whose next message has begun and is not whole, though there is room for it."""
        waiting = {call for call, _ in self._waiting}
        return {
            (call, len(call.messages) if isinstance(call, UnaryCall) else call.taken)
            for call in self.live
            if call.is_open and call.is_unfinished and call not in waiting
        }

    def give_up(self, call: Call, seconds: float) -> None:
        """A message did not arrive in time."""
        text = f"a message was not whole after {seconds:g} s (limits.frame_timeout)"
        call.fail(Reply([], Status.DEADLINE_EXCEEDED, text))

    def _on_deadline(self, call: Call) -> None:
        call.timer = None
        if call.is_open:
            call.fail(Reply([], Status.DEADLINE_EXCEEDED, "the deadline of the call has passed"))
            self._on_output()

    def _grant(self, call: Call, missing: int) -> None:
        self._room -= missing
        # More than is missing: what follows it is as small as at the beginning.
        self.streams.grant(call.stream, missing - call.stream.room + STREAM_ROOM)
        self._on_output()

    def _refuse(self, stream: Stream, block: bytes) -> None:
        self.streams.finish(stream, block)
        self.streams.release()
