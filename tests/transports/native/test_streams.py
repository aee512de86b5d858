"""Streams of one client, without a socket: how much leaves, and that each has one end."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from edged.errors import EdgedError, InvalidRequestError, QueueFullError, RemoteProtocolError
from edged.messages import InferRequest, InferResponse
from edged.protocol import native, streams
from edged.protocol.frames import Frame, Kind, Limits
from edged.transports.native.requests import Requests
from edged.transports.native.streams import encode_answer
from tests.fakes.clock import on_loop
from tests.fakes.streams import RowsDoor
from tests.fakes.wire import only

X = np.arange(12, dtype=np.float32).reshape(6, 2)


class Desk:
    """Requests with a door that gives rows; ``said`` is what was written."""

    def __init__(self, max_in_flight: int = 10) -> None:
        self.door = RowsDoor()
        self.said: list[Frame] = []
        self.idle = 0
        self.server = SimpleNamespace(
            door=self.door, calls={}, limits=Limits(), max_in_flight=max_in_flight,
            stream_wait_s=60.0, requests=0,
        )  # fmt: skip
        self.requests = Requests(self.server, self.write, self.on_answered)

    def write(self, buffers: list) -> None:
        self.said.append(only(buffers))

    def on_answered(self) -> None:
        self.idle += 1

    def ask(self, number: int, ahead: int = 16, **inputs: np.ndarray) -> None:
        request = InferRequest("m", inputs or {"x": X})
        self.requests.handle(only(streams.encode_stream(number, request, 0, ahead)))

    def more(self, number: int, count: int) -> None:
        self.requests.handle(only(streams.encode_more(number, count)))

    def heard(self) -> list[object]:
        """What was said since: places of answers, an end, errors by name."""
        found: list[object] = []
        for frame in self.said:
            if frame.kind == Kind.PART:
                found.append(streams.decode_part(frame, "m", Limits())[1])
            else:
                error = native.decode_response(frame, "m", Limits()).error
                found.append("end" if error is None else type(error).__name__)
        self.said.clear()
        return found


@on_loop
async def test_answers_leave_in_order_and_the_end_once():
    desk = Desk()
    desk.ask(1)
    assert desk.heard() == [0, 1, 2, 3, 4, 5, "end"]
    assert desk.idle == 1
    assert desk.server.requests == 1
    assert not desk.requests.are_in_flight


@on_loop
async def test_no_more_leave_than_the_client_takes():
    desk = Desk()
    desk.ask(1, ahead=2)
    assert desk.heard() == [0, 1]
    desk.more(1, 3)
    assert desk.heard() == [2, 3, 4]
    desk.more(1, 1)
    assert desk.heard() == [5, "end"]
    desk.more(1, 1)
    assert not desk.heard(), "the client cannot know yet that it has ended"


@on_loop
async def test_a_full_socket_holds_all_streams():
    desk = Desk()
    desk.ask(1, ahead=1)
    desk.requests.streams.hold()
    desk.ask(2)
    desk.more(1, 9)
    assert desk.heard() == [0]
    desk.requests.streams.release()
    assert desk.heard() == [1, 2, 3, 4, 5, "end", 0, 1, 2, 3, 4, 5, "end"]


@on_loop
async def test_the_first_answer_after_a_pause_may_fill_the_socket_again():
    desk = Desk()
    desk.requests.streams.hold()
    desk.ask(1)
    desk.ask(2)
    write = desk.write

    def fill(buffers: list) -> None:
        write(buffers)
        desk.requests.streams.hold()

    for giver in desk.door.streams:
        giver.on_response.__self__._write = fill
    desk.requests.streams.release()
    assert desk.heard() == [0]


@on_loop
async def test_a_withdrawn_stream_has_one_end():
    desk = Desk()
    desk.ask(1, ahead=2)
    desk.requests.handle(only(native.encode_cancel(1)))
    assert desk.heard() == [0, 1, "CancelledError"]
    desk.more(1, 9)
    desk.door.streams[0].end(None)
    assert not desk.heard()
    desk.ask(1)
    assert desk.heard()[-1] == "end", "the id is free again"


@on_loop
async def test_a_client_that_goes_ends_its_streams():
    desk = Desk()
    desk.ask(1, ahead=1)
    desk.requests.withdraw_all()
    assert desk.door.streams[0].ended == 1


@on_loop
async def test_who_waits_for_more_is_told_that_the_daemon_stops():
    desk = Desk()
    desk.ask(1, ahead=1)
    desk.requests.streams.stop()
    assert desk.heard() == [0, "DrainingError"]
    assert desk.door.streams[0].ended == 1
    assert not desk.requests.are_in_flight


@on_loop
async def test_an_answer_that_cannot_be_said_ends_the_stream():
    desk = Desk()
    desk.ask(1, ahead=1)
    (giver,) = desk.door.streams
    giver.on_response(InferResponse("m", 7, 3, {"x": X.astype(np.complex64)}), False)
    giver.on_response(InferResponse("m", 7, 3, {"x": X}), False)
    assert desk.heard() == [0, "RuntimeFailureError"], "it is our own mistake"
    assert giver.ended == 1


@on_loop
async def test_streams_count_among_the_requests_of_a_connection():
    desk = Desk(max_in_flight=2)
    for number in (1, 2, 3):
        desk.ask(number, ahead=1)
    assert desk.heard() == [0, 0, "QueueFullError"]
    with pytest.raises(RemoteProtocolError, match="request id 1 is already in flight"):
        desk.ask(1)


@on_loop
async def test_what_is_no_request_begins_nothing():
    desk = Desk()
    desk.requests.handle(only(streams.encode_stream(1, InferRequest("m", {"x": X}), 0, 0)))
    desk.requests.handle(only(streams.encode_more(1, 0)))
    assert desk.heard() == ["InvalidRequestError", "InvalidRequestError"]
    assert not desk.door.streams


def test_an_end_that_cannot_be_said_is_an_error():
    response = InferResponse("m", 7, 3, {"x": X.astype(np.complex64)})
    error = native.decode_response(only(encode_answer(1, response)), "m", Limits()).error
    assert isinstance(error, EdgedError)
    error = QueueFullError("full")
    frame = only(encode_answer(1, InferResponse("m", 7, 3, error=error)))
    assert native.decode_response(frame, "m", Limits()).error.message == "full"
    assert not isinstance(error, InvalidRequestError)
