"""ModelStreamInfer, asked without a wire: order, failures, pace, and ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edged.errors import CancelledError, RunError
from edged.messages import InferRequest, InferResponse, OnResponse, StreamRequest
from edged.protocol.grpc_call import Status
from edged.protocol.oip_messages import INFER_REQUEST, STREAM_RESPONSE
from edged.protocol.protobuf import decode, encode
from edged.transports.grpc.service import Asker, GrpcService
from tests.fakes.calls import OIP, Stream
from tests.fakes.web import Pages

X = np.float32([[1, 2]])
PATH = OIP + "ModelStreamInfer"


class Door:
    """Keeps every request until the test answers it."""

    def __init__(self) -> None:
        self.asked: list[tuple[InferRequest, OnResponse]] = []
        self.withdrawn: list[int] = []

    def submit(self, request: InferRequest, on_response: OnResponse) -> Any:
        index = len(self.asked)
        self.asked.append((request, on_response))
        door = self

        class Ticket:
            def cancel(self) -> bool:
                door.withdrawn.append(index)
                on_response(InferResponse("m", 7, 3, error=CancelledError("withdrawn")), True)
                return True

        return Ticket()

    def prepare(self, request: Any) -> Any:
        raise NotImplementedError

    def answer(self, index: int, *, final: bool = True, **outputs: Any) -> None:
        self.asked[index][1](InferResponse("m", 7, 3, outputs), final)

    def fail(self, index: int) -> None:
        self.asked[index][1](InferResponse("m", 7, 3, error=RunError("it broke")), True)


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def service(door: Door) -> Asker:
    return GrpcService(door, Pages()).asker()


def message(request_id: str = "", **parameters: Any) -> bytes:
    document = {
        "model_name": "m", "id": request_id, "parameters": parameters,
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2]}],
        "raw_input_contents": [X.tobytes()],
    }  # fmt: skip
    return encode(INFER_REQUEST, document)


def told(stream: Stream) -> list[Any]:
    """Of each message the id and whether it is the last one for it, or what was wrong."""
    found: list[Any] = []
    for data in stream.sent:
        document = decode(STREAM_RESPONSE, data)
        response = document.get("infer_response", {})
        if "error_message" in document:
            found.append((response.get("id", ""), document["error_message"]))
        else:
            last = response["parameters"]["triton_final_response"]["bool"]
            found.append((response.get("id", ""), last))
    return found


def test_answers_leave_in_the_order_of_their_requests(service: Asker, door: Door) -> None:
    stream = Stream(service, PATH)
    for name in "abc":
        stream.incoming.message(message(name))
    door.answer(2, x=X)
    door.answer(1, x=X)
    assert stream.sent == []
    door.answer(0, x=X)
    assert told(stream) == [("a", True), ("b", True), ("c", True)]
    stream.incoming.half_close()
    assert [end.status for end in stream.ends] == [Status.OK]


def test_the_end_waits_for_the_last_answer(service: Asker, door: Door) -> None:
    stream = Stream(service, PATH)
    stream.incoming.message(message("a"))
    stream.incoming.half_close()
    assert stream.ends == []
    door.answer(0, x=X)
    assert told(stream) == [("a", True)]
    assert len(stream.ends) == 1


def test_several_answers_leave_as_they_are_made(service: Asker, door: Door) -> None:
    stream = Stream(service, PATH)
    for name in "ab":
        stream.incoming.message(message(name))
    assert all(isinstance(request, StreamRequest) for request, _ in door.asked)
    door.answer(1, final=False, x=X)
    door.answer(0, x=X)
    door.answer(1, final=False, x=X)
    door.answer(1, x=X)
    assert told(stream) == [("b", False), ("a", True), ("b", False), ("b", True)]


def test_an_end_that_brings_nothing_is_told_to_who_asks_for_it(service: Asker, door: Door) -> None:
    stream = Stream(service, PATH)
    stream.incoming.message(message("a"))
    stream.incoming.message(message("b", triton_enable_empty_final_response={"bool": True}))
    for index in (0, 1):
        door.answer(index, final=False, x=X)
        door.answer(index)
    assert told(stream) == [("a", False), ("b", False), ("b", True)]
    stream.incoming.half_close()
    assert len(stream.ends) == 1


def test_a_failure_is_a_message_and_the_stream_goes_on(service: Asker, door: Door) -> None:
    stream = Stream(service, PATH)
    stream.incoming.message(message("a"))
    stream.incoming.message(b"\xff")
    stream.incoming.message(message("c"))
    door.answer(1, x=X)
    door.fail(0)
    first, second, third = told(stream)
    assert first == ("a", "it broke")
    assert "Unable to parse" in second[1]
    assert third == ("c", True)
    assert stream.ends == []
    assert door.withdrawn == []


def test_a_failure_is_a_status_where_that_was_asked_for(service: Asker, door: Door) -> None:
    stream = Stream(service, PATH, (("triton_grpc_error", "true"),))
    stream.incoming.message(message("a"))
    stream.incoming.message(message("b"))
    door.fail(0)
    (end,) = stream.ends
    assert (end.status, end.text) == (Status.INTERNAL, "it broke")
    assert stream.sent == []
    assert 1 in door.withdrawn
    stream.incoming.message(message("c"))
    stream.incoming.half_close()
    assert len(door.asked) == 2


def test_an_answer_that_cannot_be_written_ends_its_request(service: Asker, door: Door) -> None:
    stream = Stream(service, PATH)
    stream.incoming.message(message("a"))
    door.answer(0, final=False, x=np.array([1j]))
    ((name, words),) = told(stream)
    assert name == "a"
    assert isinstance(words, str)
    assert door.withdrawn == [0]
    stream.incoming.half_close()
    assert len(stream.ends) == 1


def test_who_is_gone_is_told_nothing_more(service: Asker, door: Door) -> None:
    stream = Stream(service, PATH)
    stream.incoming.message(message("a"))
    stream.incoming.message(message("b"))
    stream.incoming.cancel()
    assert sorted(door.withdrawn) == [0, 1]
    door.answer(0, x=X)
    assert stream.sent == []
    assert stream.ends == []


def test_a_client_that_does_not_read(service: Asker, door: Door) -> None:
    stream = Stream(service, PATH)
    stream.incoming.message(message("a"))
    ((request, _),) = door.asked
    assert isinstance(request, StreamRequest)
    assert request.flow.has_room
    stream.incoming.hold()
    assert not request.flow.has_room
    assert not stream.is_reading
    stream.incoming.message(message("b"))
    second = door.asked[1][0]
    assert isinstance(second, StreamRequest)
    assert not second.flow.has_room
    stream.incoming.release()
    assert request.flow.has_room
    assert second.flow.has_room
    assert stream.is_reading


def test_more_requests_than_are_taken_at_once(service: Asker, door: Door) -> None:
    stream = Stream(service, PATH)
    for _ in range(63):
        stream.incoming.message(message())
    assert stream.is_reading
    stream.incoming.message(message())
    assert not stream.is_reading
    for index in range(32):
        assert not stream.is_reading
        door.answer(index, x=X)
    assert stream.is_reading
    # Answers that wait for one before them count too.
    for _ in range(32):
        stream.incoming.message(message())
    for index in range(33, 96):
        door.answer(index, x=X)
    assert not stream.is_reading
    door.answer(32, x=X)
    assert stream.is_reading
    assert len(stream.sent) == 96
