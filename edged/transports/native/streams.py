"""Requests of one client that get several answers: what is sent now, and what has to wait.

Decides how many answers may leave; who makes them is the dataplane's business. An answer is written
only while the client takes it, so no more than one of each stream ever waits in the daemon.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from edged.errors import DrainingError, EdgedError
from edged.flow import Flow
from edged.messages import InferResponse, StreamRequest, Ticket
from edged.protocol import native, streams
from edged.protocol.frames import Buffer, Frame
from edged.transports.native.door import Server


class Streams:
    """The streams of one connection.

    Args:
        server: the door and the limits.
        write: sends one frame.
        on_answered: called when an answer was written and no other request is on its way.
        in_flight: the connection's requests, with what withdraws them; shared with all others.
    """

    def __init__(
        self,
        server: Server,
        write: Callable[[list[Buffer]], None],
        on_answered: Callable[[], None],
        in_flight: dict[int, Ticket | None],
    ) -> None:
        self.door = server.door
        """What is asked; see ``access.guard``."""
        self._server = server
        self._write = write
        self._on_answered = on_answered
        self._in_flight = in_flight
        self._open: dict[int, _Stream] = {}
        self._is_held = False

    def begin(self, frame: Frame, origin: str, read: native.Read | None = None) -> None:
        """Take a request; its id is free, and there is room for it.

        Raises:
            EdgedError: the frame is no request; nothing was begun.
        """
        asked, timeout_us, ahead = streams.decode_stream(frame, self._server.limits, read)
        request_id = frame.request_id
        flow = Flow(ahead, self._server.stream_wait_s)
        flow.is_held = self._is_held
        deadline_ns = time.monotonic_ns() + timeout_us * 1000 if timeout_us else None
        request = StreamRequest(
            asked.model, asked.inputs, asked.release, asked.outputs, deadline_ns, origin,
            asked.asker, flow=flow,
        )  # fmt: skip
        stream = self._open[request_id] = _Stream(request_id, flow, self._write, self._end)
        self._in_flight[request_id] = None
        self._server.requests += 1
        ticket = self.door.submit(request, stream.on_response)
        if request_id in self._in_flight:
            self._in_flight[request_id] = stream.ticket = ticket

    def more(self, frame: Frame) -> None:
        """The client has read; of a stream that has ended it need not say so.

        Raises:
            EdgedError: a number that makes no sense.
        """
        count = streams.decode_more(frame)
        stream = self._open.get(frame.request_id)
        if stream is not None:
            stream.flow.grant(count)

    def hold(self) -> None:
        """The client's socket is full."""
        self._is_held = True
        for stream in self._open.values():
            stream.flow.hold()

    def release(self) -> None:
        """It takes more."""
        self._is_held = False
        for stream in list(self._open.values()):
            # The first answer may fill it again.
            if not self._is_held:
                stream.flow.release()

    def free(self) -> None:
        """The client has closed its writing side, or is gone: what is written next shows which."""
        for stream in list(self._open.values()):
            stream.flow.free()

    def stop(self) -> None:
        """Tell those who wait for more that the daemon stops."""
        for stream in list(self._open.values()):
            stream.end_with(DrainingError("the daemon stops; ask again for what is missing"))

    def _end(self, request_id: int, buffers: list[Buffer] | None) -> None:
        """One has its final answer, which is not to be sent where the client was told before."""
        del self._open[request_id]
        del self._in_flight[request_id]
        if buffers is not None:
            self._write(buffers)
        if not self._in_flight:
            self._on_answered()


class _Stream:
    """One request: numbers its answers, and lets it have one end.

    Args:
        request_id: the client's.
        flow: how many answers may leave.
        write: sends one frame.
        end: called once, with the frame that ends it or None.
    """

    def __init__(
        self,
        request_id: int,
        flow: Flow,
        write: Callable[[list[Buffer]], None],
        end: Callable[[int, list[Buffer] | None], None],
    ) -> None:
        self.flow = flow
        self.ticket: Ticket | None = None
        self._id = request_id
        self._write = write
        self._end = end
        self._index = 0
        self._is_over = False

    def on_response(self, response: InferResponse, final: bool) -> None:
        """As ``messages.OnResponse``."""
        if final:
            self._end(self._id, None if self._is_over else encode_answer(self._id, response))
            return
        if self._is_over:
            return
        try:
            buffers = streams.encode_part(self._id, response, self._index)
        except EdgedError as exc:
            self.end_with(exc)
            return
        self._index += 1
        self._write(buffers)

    def end_with(self, error: EdgedError) -> None:
        """End it before who answers does; what comes from there is not sent any more."""
        self._is_over = True
        self._write(native.encode_error(self._id, error))
        if self.ticket is not None:
            self.ticket.cancel()


def encode_answer(request_id: int, response: InferResponse) -> list[Buffer]:
    """The frame that ends a request: RESULT, or ERROR where it cannot be said otherwise."""
    try:
        return native.encode_response(request_id, response)
    except EdgedError as exc:
        return native.encode_error(request_id, exc, response.release, response.generation)
