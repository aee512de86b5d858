"""What clients of gRPC ask again and again: noticed, prepared once, and answered the short way.

Decides which messages are remembered, and when one is answered on the spot: when nobody else asks
for anything, as over the native socket and HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from edged.errors import EdgedError
from edged.messages import InferResponse, PrepareRequest, Ticket
from edged.protocol.frames import Buffer
from edged.protocol.grpc_call import Head, OnReply, Reply
from edged.protocol.grpc_repeat import REPEAT_BYTES, GrpcLane, GrpcRepeat, repeat_of
from edged.protocol.http2_short import ANSWER_BYTES
from edged.protocol.oip_grpc import Inference
from edged.runtimes.base import StillRunningError
from edged.transports.oip_door import Door, Prepared

_T = TypeVar("_T")

Finish = Callable[[GrpcRepeat, Buffer, InferResponse], Reply]

_MOST = 16
"""Kinds of messages that are remembered, by their lengths; more are simply read anew."""
_MOST_BYTES = 2 * REPEAT_BYTES
"""Of one message of each kind, all kept together: there is a connection for each of many clients,
and nearly all of their messages are short."""


_SHORT_NS = 30_000
"""A run that takes less than to stand in line and to be answered from there."""


class _Known:
    """A repeat, its call, and its lane once there is one."""

    __slots__ = ("call", "has_lane", "lane", "repeat")

    def __init__(self, repeat: GrpcRepeat, call: Prepared) -> None:
        self.repeat = repeat
        self.call = call
        self.lane: GrpcLane | None = None
        self.has_lane = True
        """Whether there may be one."""


class Repeats:
    """Of one connection.

    Args:
        door: what is asked.
        finish: makes a reply of an answer, which may be an error.
        asker: whom the turn takes this for.
    """

    def __init__(self, door: Door, finish: Finish, asker: object) -> None:
        self.door = door
        self._finish = finish
        self._asker = asker
        self._seen: dict[int, GrpcRepeat] = {}
        self._known: dict[int, _Known] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._seen.clear()
        self._known.clear()

    def notice(self, message: Buffer, inference: Inference) -> None:
        """Take note of a message that went the long way; its like came before, or may come."""
        size = len(message)
        before = self._seen.pop(size, None)
        if before is None or not before.fits(message):
            repeat = repeat_of(message, inference)
            if repeat is not None:
                self._room(self._seen, size)[size] = repeat
            return
        asked = before.inference.asked
        outputs = tuple(one.name for one in asked.outputs)
        specs, release = before.specs, inference.release
        what = PrepareRequest(inference.model, specs, release, outputs, asked.asker)
        try:
            call = self.door.prepare(what)
        except EdgedError:
            return  # the long way says what is wrong
        self._room(self._known, size)[size] = _Known(before, call)

    def ask(self, head: Head, message: Buffer, on_reply: OnReply) -> tuple[bool, Ticket | None]:
        """Answer a message that is known, now or later.

        Returns:
            Whether it is; what withdraws it.
        """
        known = self._known.get(len(message))
        if known is None or not known.repeat.fits(message):
            return False, None
        call, repeat = known.call, known.repeat
        if not call.is_current:
            self.clear()  # the long way looks everything up, also whether it is allowed
            return False, None

        def on_response(response: InferResponse, final: bool) -> None:
            if final:
                on_reply(self._finish(repeat, message, response))

        try:
            answer = self._alone(known, head, message)
        except StillRunningError:
            lane, known.lane = known.lane, None
            assert lane is not None
            call.adopt(lane.inputs, 0, head.origin, on_response)
            return True, None
        if answer is not None:
            on_reply(Reply([answer]))
            return True, None
        deadline_ns = deadline_ns_of(head, repeat.inference.asked.timeout_us)
        inputs, key = repeat.inputs(message), repeat.asker(message)
        return True, call.submit(inputs, 0, deadline_ns, head.origin, on_response, key=key)

    def ask_alone(self, head: Head, message: bytes) -> bytes | None:
        """The answer to a message that is known, on the spot; None where ``ask`` has to be asked.

        Never of what runs in a worker: such a run may go on, and the call has to be there then.
        """
        known = self._known.get(len(message))
        if known is None or known.lane is None or not known.repeat.fits(message):
            return None
        call = known.call
        if call.is_apart or not call.is_current or known.lane.answer_bytes > ANSWER_BYTES:
            return None
        if not call.turn.is_still_alone(self._asker):
            return None
        return self._by_lane(known, head, message)

    def _alone(self, known: _Known, head: Head, message: Buffer) -> bytes | None:
        call = known.call
        # Longer runs are shared by those that ask in one turn, which then costs less than the line.
        is_short = call.outlook[2] < _SHORT_NS
        if not known.has_lane or not call.turn.is_alone(self._asker, is_many=is_short):
            return None
        return self._by_lane(known, head, message)

    def _by_lane(self, known: _Known, head: Head, message: Buffer) -> bytes | None:
        call, lane = known.call, known.lane
        if lane is None:
            try:
                lane = GrpcLane(known.repeat, call, call.outputs, call.numbers)
            except EdgedError:
                known.has_lane = False
                return None
            known.lane = lane
        answer = lane.ask(message, head.origin)
        if answer is None and not lane.is_current:
            known.lane = None
        return answer

    @staticmethod
    def _room(found: dict[int, _T], size: int) -> dict[int, _T]:
        """The same with room for one more kind, whose messages have this size."""
        while len(found) >= _MOST or (found and sum(found) + size > _MOST_BYTES):
            del found[next(iter(found))]
        return found


def deadline_ns_of(head: Head, timeout_us: int) -> int | None:
    """The earlier deadline: the call's, or the request's own."""
    deadline_ns = head.deadline_ns
    if not timeout_us:
        return deadline_ns
    own_ns = time.monotonic_ns() + timeout_us * 1000
    return own_ns if deadline_ns is None else min(own_ns, deadline_ns)
