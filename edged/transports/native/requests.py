"""What one client of the native protocol has asked for: requests in flight, prepared calls, calls.

Decides what a frame starts and under which id its answer leaves; never reads or writes a socket.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from edged.access.guard import Guard, guarded
from edged.access.visit import Visit
from edged.errors import (
    EdgedError,
    InvalidRequestError,
    QueueFullError,
    RemoteProtocolError,
)
from edged.messages import InferRequest, InferResponse, OnResponse, Ticket
from edged.protocol import greeting, memory, native, prepared, prepared_runs, steps
from edged.protocol.frames import Buffer, Frame, Kind, Limits
from edged.protocol.lane import Lane
from edged.protocol.layout import COPY_BYTES, BodyLayout
from edged.protocol.prepared_runs import RunHead
from edged.runtimes.base import StillRunningError
from edged.transports.native.bound import Bound, Fixed
from edged.transports.native.calls import Calls
from edged.transports.native.door import Server
from edged.transports.native.handle import Handle
from edged.transports.native.loans import KINDS as LOAN_KINDS
from edged.transports.native.loans import UNANSWERED, Loans, Passes, not_open
from edged.transports.native.streams import Streams, encode_answer
from edged.version import __version__

log = logging.getLogger("edged.uds")

_HANDLES = 1024
"""Prepared calls of one connection; each keeps a few small objects. One a model is plenty."""


Decode = Callable[[Frame, Limits, native.Read | None], tuple[InferRequest, int]]
"""Reads a request and its timeout in microseconds out of a frame."""


class Requests:
    """The requests of one connection.

    Args:
        server: the door, the calls and the limits.
        write: sends one frame.
        on_answered: called when an answer was written and no other is on its way.
        passes: what descriptors can come over; None for nothing.
    """

    def __init__(
        self,
        server: Server,
        write: Callable[[list[Buffer]], None],
        on_answered: Callable[[], None],
        passes: Passes | None = None,
    ) -> None:
        self.origin = "uds"
        self._server = server
        self._limits = server.limits
        self._door = server.door
        self._visit: Visit | None = None
        self._write = write
        self._on_answered = on_answered
        self._passes = passes
        self._loans: Loans | None = None
        self._in_flight: dict[int, Ticket | None] = {}
        self._handles: dict[int, Handle] = {}
        self._lanes: dict[int, Lane] = {}
        self._last_handle = 0
        self._calls = Calls(server, write, on_answered, self._in_flight)
        self.streams = Streams(server, write, on_answered, self._in_flight)

    @property
    def are_in_flight(self) -> bool:
        """Whether answers are still to come."""
        return bool(self._in_flight)

    @property
    def are_calls_under_way(self) -> bool:
        """Whether the daemon itself was asked for something that is not done yet."""
        return self._calls.are_under_way

    def enter(self, visit: Visit) -> None:
        """Ask through this from now on."""
        self._visit = self._calls.visit = visit
        self.review()

    def review(self) -> None:
        """What the client may do has changed, or may have: also what it has prepared and asked."""
        if self._visit is None:
            return
        door = self._door = guarded(self._server.door, self._visit, self._door)
        self.streams.door = door
        if isinstance(door, Guard):
            self._lanes.clear()
            for number, handle in self._handles.items():
                self._handles[number] = handle.guarded(door.over(handle.call))
            for bound in self._bound.values():
                bound.follow(door.over(bound.call))
            door.withdraw()

    def withdraw_all(self) -> None:
        """The client is gone: nobody would read the answers."""
        self._calls.stop()
        for ticket in list(self._in_flight.values()):
            if ticket is not None:
                ticket.cancel()
        self._handles.clear()
        self._lanes.clear()  # the turn keeps who asked last, for as long as nobody else does
        if self._loans is not None:
            self._loans.clear()

    def handle(self, frame: Frame) -> None:
        """Anything but a request for inference."""
        try:
            if frame.kind == Kind.HELLO:
                hello = greeting.decode_hello(frame)
                log.debug("%s calls itself %r", self.origin, hello.client[:64])
                self._write(
                    greeting.encode_welcome(
                        f"edged/{__version__}", self._limits, self._server.max_in_flight
                    )
                )
            elif frame.kind == Kind.PREPARE:
                self._prepare(frame)
            elif frame.kind == Kind.CANCEL:
                # One that runs, or whose answer crossed this frame on its way, has no ticket.
                ticket = self._in_flight.get(frame.request_id)
                if ticket is not None:
                    ticket.cancel()
            elif frame.kind == Kind.STREAM:
                self._check_id(frame.request_id)
                self._check_room()
                self.streams.begin(frame, self.origin, self._read)
            elif frame.kind == Kind.STEP:
                self.infer(frame, steps.decode_step)
            elif frame.kind == Kind.MORE:
                self.streams.more(frame)
            elif frame.kind == Kind.FORGET:
                number = prepared.decode_forget(frame)
                self._handles.pop(number, None)
                self._lanes.pop(number, None)
                self._bound.pop(number, None)
            elif frame.kind == Kind.CALL:
                self._call(frame)
            elif frame.kind in LOAN_KINDS:
                if frame.kind not in UNANSWERED:
                    self._check_id(frame.request_id)
                self._lent().handle(frame)
            elif frame.kind == Kind.BIND:
                self._bind(frame)
            else:
                raise InvalidRequestError(f"unknown kind of frame: {frame.kind}")
        except RemoteProtocolError:
            raise
        except EdgedError as exc:
            self._write(native.encode_error(frame.request_id, exc))

    def _check_id(self, request_id: int) -> None:
        if request_id in self._in_flight:
            # Not answered under that id: the first request's answer must stay the only one.
            raise RemoteProtocolError(f"request id {request_id} is already in flight")
        if request_id == 0:
            raise RemoteProtocolError("request id 0 stands for the connection; use another")

    def _check_room(self) -> None:
        if len(self._in_flight) >= self._server.max_in_flight:
            raise QueueFullError(
                f"{len(self._in_flight)} requests of this connection are unanswered, the most "
                "allowed (limits.max_in_flight)"
            )

    def _check_handles(self) -> None:
        if len(self._handles) + len(self._bound) >= _HANDLES:
            raise QueueFullError(
                f"{_HANDLES} prepared calls are open on this connection, the most allowed: "
                "close those that are not needed"
            )

    def _lent(self) -> Loans:
        if self._loans is None:
            if self._passes is None:
                raise InvalidRequestError("no descriptor can come over this connection")
            self._loans = Loans(
                self._server,
                self._passes,
                (self._write, self._on_answered),
                self._in_flight,
                self.origin,
            )
            self._loans.visit = self._visit
        return self._loans

    @property
    def _bound(self) -> dict[int, Bound]:
        return {} if self._loans is None else self._loans.bound

    @property
    def _read(self) -> native.Read | None:
        """What copies out of memory that the client lends."""
        return None if self._loans is None else self._loans.read

    def _bind(self, frame: Frame) -> None:
        self._check_id(frame.request_id)
        self._check_handles()

        def find(number: int) -> Fixed:
            handle = self._handles.get(number)
            if handle is None:
                raise not_open(number)
            return Fixed(handle.call, handle.inputs, handle.outputs, 0)

        bound = self._lent().bind(frame, find)
        self._last_handle += 1
        self._bound[self._last_handle] = bound
        self._write(memory.encode_bound(frame.request_id, self._last_handle))

    def _prepare(self, frame: Frame) -> None:
        self._check_id(frame.request_id)
        self._check_handles()
        if self._visit is not None:
            self._visit.ask()
        request = prepared.decode_prepare(frame, self._limits)
        call = self._door.prepare(request)
        outputs = call.outputs
        layout = prepared.answer_layout(outputs)
        self._last_handle += 1
        self._handles[self._last_handle] = Handle(call, BodyLayout(request.inputs), layout)
        self._write(
            prepared.encode_prepared(
                frame.request_id, self._last_handle, call.release, call.generation, outputs
            )
        )

    def take_run(self, data: memoryview, count: int) -> bool | None:
        """Take the only frame that is there, if it is a RUN frame and nothing else.

        When nobody else asks for anything, it is answered on the spot.

        Args:
            data: where it arrived.
            count: bytes that arrived.

        Returns:
            Whether it was answered on the spot and the next may be waited for awake; None for
            everything else, and nothing has happened.
        """
        asked = prepared_runs.peek_run(data, count)
        if asked is None:
            return None
        request_id, number, rows, size, timeout_us, at, key = asked
        handle = self._handles.get(number)
        if handle is None or size > self._limits.body_bytes:
            bound = None if size or self._in_flight else self._bound.get(number)
            if bound is None or rows != bound.rows or not bound.call.turn.is_alone(self):
                return None
            answer = bound.ask_alone(request_id, self.origin, key)
            if answer is not None:
                self._server.requests += 1
                self._write([answer])
                return not self._lent().answered(bound)
            self._lent().run(request_id, bound, RunHead(number, rows, timeout_us, key), 0)
            return False
        if not self._in_flight and handle.call.turn.is_alone(self) and size <= COPY_BYTES:
            lane = self._lanes.get(number)
            if lane is None or lane.rows != rows:
                lane = self._make_lane(number, handle, rows)
            if lane is not None and lane.size == size:
                try:
                    answer = lane.ask(data, request_id, self.origin, at, key)
                except StillRunningError:
                    self._adopt(request_id, handle, lane)
                    return False
                if answer is not None:
                    self._server.requests += 1
                    self._write([answer])
                    return True
                if not lane.is_current:
                    del self._lanes[number]
        # Copied out of the buffer: tensors outlive the next read.
        head = RunHead(number, rows, timeout_us, key)
        self._run(request_id, head, bytes(data[:count]), at)
        return False

    def _adopt(self, request_id: int, handle: Handle, lane: Lane) -> None:
        """Answer a lone run later; its lane's memory is in use until then."""
        self._lanes = {number: one for number, one in self._lanes.items() if one is not lane}
        self._in_flight[request_id] = None
        self._server.requests += 1
        on_response = self._answerer(request_id, handle, lane.rows)
        handle.call.adopt(lane.inputs, lane.rows, self.origin, on_response)

    def _make_lane(self, number: int, handle: Handle, rows: int) -> Lane | None:
        if handle.outputs is None:
            return None
        try:
            lane = self._lanes[number] = Lane(handle.inputs, handle.outputs, rows, handle.call)
        except EdgedError:
            return None  # frames that are wrong, or large: the usual way takes or refuses them
        return lane

    def run(self, frame: Frame) -> None:
        """Take a request of a prepared call."""
        try:
            head = prepared_runs.decode_run_head(frame)
        except EdgedError as exc:
            self._check_id(frame.request_id)
            self._write(native.encode_error(frame.request_id, exc))
            return
        self._run(frame.request_id, head, frame.data, prepared_runs.body_at(frame))

    def _run(self, request_id: int, head: RunHead, data: bytes | memoryview, at: int) -> None:
        number, rows, timeout_us, key = head
        in_flight = self._in_flight
        if request_id in in_flight or not request_id:
            self._check_id(request_id)
        try:
            handle = self._handles.get(number)
            if handle is None:
                bound = self._bound.get(number)
                if bound is None:
                    raise not_open(number)
                self._lent().run(request_id, bound, head, len(data) - at)
                return
            deadline_ns = time.monotonic_ns() + timeout_us * 1000 if timeout_us else None
            if answer := handle.refused(request_id, rows, deadline_ns, self.origin):
                self._server.requests += 1
                self._write(answer)
                return
            inputs = prepared_runs.decode_run_body(data, handle.inputs, rows, at)
            if len(in_flight) >= self._server.max_in_flight:
                self._check_room()
        except EdgedError as exc:
            self._write(native.encode_error(request_id, exc))
            return
        in_flight[request_id] = None
        self._server.requests += 1

        on_response = self._answerer(request_id, handle, rows)
        ticket = handle.call.submit(inputs, rows, deadline_ns, self.origin, on_response, key=key)
        if request_id in in_flight:
            in_flight[request_id] = ticket

    def _answerer(self, request_id: int, handle: Handle, rows: int) -> OnResponse:
        """What writes the answer to a request of a prepared call."""
        in_flight = self._in_flight

        def on_response(response: InferResponse, final: bool) -> None:
            if final:
                del in_flight[request_id]
            buffers = None
            if response.error is None and handle.outputs is not None:
                buffers = prepared_runs.encode_answer(request_id, response, handle.outputs, rows)
            self._write(encode_answer(request_id, response) if buffers is None else buffers)
            if not in_flight:
                self._on_answered()

        return on_response

    def infer(self, frame: Frame, decode: Decode = native.decode_infer) -> None:
        """Take a request that says everything itself."""
        request_id = frame.request_id
        in_flight = self._in_flight
        self._check_id(request_id)
        try:
            request, timeout_us = decode(frame, self._limits, self._read)
            self._check_room()
        except EdgedError as exc:
            self._write(native.encode_error(request_id, exc))
            return
        if timeout_us:
            request.deadline_ns = time.monotonic_ns() + timeout_us * 1000
        request.origin = self.origin
        in_flight[request_id] = None
        self._server.requests += 1

        def on_response(response: InferResponse, final: bool) -> None:
            if final:
                del in_flight[request_id]
            self._write(encode_answer(request_id, response))
            if not in_flight:
                self._on_answered()

        ticket = self._door.submit(request, on_response)
        if request_id in in_flight:
            in_flight[request_id] = ticket

    def _call(self, frame: Frame) -> None:
        request_id = frame.request_id
        self._check_id(request_id)
        head, call = self._calls.find(frame)
        self._check_room()
        self._calls.begin(request_id, head, call, self.origin)
