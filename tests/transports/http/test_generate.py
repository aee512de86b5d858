"""Answers that come as events: their form, their ends, and clients that stop reading or go."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged import generating
from edged.errors import CancelledError, QueueFullError, RunError
from edged.generating import Piece
from edged.messages import InferRequest, InferResponse, OnResponse, SequencedRequest, StreamRequest
from tests.fakes.house import LOOPS, eventually
from tests.fakes.web import Visitor, Web, drained, raw

ONE, MANY = "/v2/models/m/generate", "/v2/models/m/generate_stream"
BODY = b'{"x": [1, 2]}'
X = {"x": np.float32([[1, 2]])}


class Door:
    """Keeps what is asked until the test answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[InferRequest, OnResponse]] = []
        self.withdrawn = 0
        self.at_once: list[tuple[InferResponse, bool]] = []

    def submit(self, request: InferRequest, on_response: OnResponse) -> Any:
        self.asked.append((request, on_response))
        for response, final in self.at_once:
            on_response(response, final)
        door = self

        class Ticket:
            def cancel(self) -> bool:
                door.withdrawn += 1
                on_response(InferResponse("m", 7, 3, error=CancelledError("withdrawn")), True)
                return True

        return None if self.at_once and self.at_once[-1][1] else Ticket()

    def prepare(self, request: Any) -> Any:
        raise NotImplementedError


class Stand:
    """A server on a real socket whose answers the test gives."""

    def __init__(self, web: Web) -> None:
        self.web, self.door = web, Door()
        web.server.door = self.door

    def asked(self, count: int = 1) -> InferRequest:
        eventually(lambda: len(self.door.asked) == count)
        return self.door.asked[-1][0]

    def give(self, value: float | None = None, *, final: bool = False) -> None:
        outputs = {} if value is None else {"y": np.float32([[value]])}
        self.tell(InferResponse("m", 7, 3, outputs), final=final)

    def tell(self, response: InferResponse, *, final: bool = True) -> None:
        self.web.call(self.door.asked[-1][1], response, final)

    def fail(self, error: Exception) -> None:
        self.tell(InferResponse("m", 7, 3, error=error))


@pytest.fixture(params=LOOPS)
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    web = Web(tmp_path / "h", LOOPS[request.param])
    made = Stand(web)
    web.start()
    yield made
    web.stop()
    assert web.trouble == []


@pytest.fixture
def visitor(stand: Stand) -> Iterator[Visitor]:
    made = Visitor(stand.web.path)
    yield made
    made.close()


def event(stream: Any) -> dict[str, Any]:
    """The next event; waits for no more than that."""
    line, end = stream.readline(), stream.readline()
    assert (line[:6], end) == (b"data: ", b"\n"), line
    return json.loads(line[6:])


def begun(stand: Stand, visitor: Visitor) -> Any:
    """The head of an answer whose first event is given."""
    visitor.request("POST", MANY, BODY)
    stand.asked()
    stand.give(1)
    return visitor.getresponse()


def test_each_comes_when_it_is_made(stand: Stand, visitor: Visitor) -> None:
    response = begun(stand, visitor)
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-cache"
    assert isinstance(stand.asked(), StreamRequest)
    assert event(response) == {"model_name": "m", "model_version": "7", "y": 1}
    stand.give(2)
    assert event(response)["y"] == 2
    stand.give(3, final=True)
    assert event(response)["y"] == 3
    assert response.read() == b""
    assert visitor.ask("GET", "/v2/health/live")[0] == 200


def test_an_end_without_a_word(stand: Stand, visitor: Visitor) -> None:
    response = begun(stand, visitor)
    stand.give(final=True)
    assert event(response)["y"] == 1
    assert response.read() == b""


def test_an_only_answer_is_an_event(stand: Stand, visitor: Visitor) -> None:
    stand.door.at_once = [(InferResponse("m", 7, 3, X), True)]
    status, data = visitor.ask("POST", MANY, BODY)
    assert (status, data) == (
        200,
        b'data: {"model_name":"m","model_version":"7","x":[1.0,2.0]}\n\n',
    )
    assert visitor.ask("POST", MANY, BODY) == (status, data)


def test_an_answer_alone(stand: Stand, visitor: Visitor) -> None:
    stand.door.at_once = [(InferResponse("m", 7, 3, X), True)]
    body = b'{"x": [1, 2], "id": "mine", "parameters": {"sequence_id": "s", "timeout": 9000000}}'
    status, document = visitor.ask("POST", "/v2/models/m/versions/4/generate", body)
    assert (status, document["id"], document["x"]) == (200, "mine", [1, 2])
    request = stand.asked()
    assert isinstance(request, SequencedRequest)
    assert request.release == 4
    assert request.deadline_ns is not None
    np.testing.assert_array_equal(request.inputs["x"], X["x"])


@pytest.mark.parametrize("path", [ONE, MANY])
def test_its_id_may_keep_it_on_one_side_of_a_rollout(
    stand: Stand, visitor: Visitor, path: str
) -> None:
    stand.door.at_once = [(InferResponse("m", 7, 3, X), True)]
    visitor.ask("POST", path, b'{"x": [1, 2], "id": "mine"}')
    visitor.ask("POST", path, BODY)
    assert [request.asker for request, _ in stand.door.asked] == [{"id": "mine"}, None]


def test_a_text(stand: Stand, visitor: Visitor) -> None:
    visitor.request("POST", "/v2/models/story/generate_stream", b'{"text_input": "a"}')
    assert list(stand.asked().inputs) == ["request"]
    for pieces in ([Piece("b", 1)], [Piece("", 2, "length")]):
        outputs = generating.tensors(pieces)
        stand.tell(InferResponse("story", 7, 3, outputs), final=bool(pieces[0].finish))
    response = visitor.getresponse()
    assert event(response)["text_output"] == "b"
    assert event(response)["finish"] == "length"
    assert response.read() == b""


@pytest.mark.parametrize("path", [ONE, MANY])
def test_what_fails_before_anything_left_has_a_status(
    stand: Stand, visitor: Visitor, path: str
) -> None:
    stand.door.at_once = [(InferResponse("m", 0, 3, error=QueueFullError("full")), True)]
    status, document = visitor.ask("POST", path, BODY)
    assert (status, visitor.headers["Retry-After"]) == (503, "1")
    assert document == {"error": "Exceeds maximum queue size: full"}
    assert visitor.ask("POST", path, b'{"z": 1}')[0] == 400
    assert visitor.ask("POST", path.replace("/m/", "/nope/"), BODY)[0] == 404
    assert visitor.ask("GET", path)[0] == 405
    assert visitor.headers["Allow"] == "POST"
    assert len(stand.door.asked) == 1


def test_what_fails_later_is_an_event(stand: Stand, visitor: Visitor) -> None:
    response = begun(stand, visitor)
    stand.fail(RunError("it broke"))
    event(response)
    assert event(response) == {"error": "it broke"}
    assert response.read() == b""
    assert visitor.ask("GET", "/v2/health/live")[0] == 200
    assert stand.door.withdrawn == 0


@pytest.mark.parametrize("at_once", [False, True])
def test_what_has_no_form_in_json_ends_it(stand: Stand, visitor: Visitor, at_once: bool) -> None:
    half = InferResponse("m", 7, 3, {"y": np.float16([1])})
    if at_once:
        stand.door.at_once = [(half, False)]
    visitor.request("POST", MANY, BODY)
    stand.asked()
    if not at_once:
        stand.tell(half, final=False)
    response = visitor.getresponse()
    assert response.status == 400
    assert "no form in JSON" in json.loads(response.read())["error"]
    eventually(lambda: stand.door.withdrawn == 1)


def test_without_chunks_the_end_is_the_connections(stand: Stand) -> None:
    stand.door.at_once = [(InferResponse("m", 7, 3, X), False), (InferResponse("m", 7, 3, X), True)]
    head = f"POST {MANY} HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: {len(BODY)}\r\n\r\n"
    answer, _, events = raw(stand.web.path, head.encode() + BODY).partition(b"\r\n\r\n")
    assert b"chunked" not in answer
    assert b"Connection: close" in answer
    assert [line[:6] for line in events.split(b"\n\n")] == [b"data: ", b"data: ", b""]


def test_who_wants_no_more_is_told_nothing_more(stand: Stand) -> None:
    stand.door.at_once = [(InferResponse("m", 7, 3, X), True)]
    head = f"POST {MANY} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len(BODY)}\r\n\r\n"
    answer = raw(stand.web.path, head.encode() + BODY)
    assert b"Connection: close" in answer
    assert answer.endswith(b"\n\n\r\n0\r\n\r\n")


@pytest.mark.hostile("B22 clients of events that go in the middle, or never read")
@pytest.mark.parametrize("path", [ONE, MANY])
def test_a_client_that_goes(stand: Stand, path: str) -> None:
    for has_begun in (False, True):
        visitor = Visitor(stand.web.path)
        visitor.request("POST", path, BODY)
        eventually(lambda: len(stand.door.asked) == 1 + has_begun)  # noqa: B023
        if has_begun:
            stand.give(1)
        visitor.close()
        eventually(lambda: stand.door.withdrawn == 1 + has_begun)  # noqa: B023
        stand.give(2)  # what was on its way goes nowhere


def test_what_was_asked_behind_it_waits(stand: Stand) -> None:
    head = f"POST {MANY} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(stand.web.path))
        sock.sendall(head + BODY + b"GET /v2/health/live HTTP/1.0\r\n\r\n")
        stand.asked()
        stand.give(1)
        stand.give(2, final=True)
        answers = drained(sock)
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.index(b'"y":2') < answers.index(b'{"live":true}')


def test_a_client_that_does_not_read_holds_what_is_made(stand: Stand, visitor: Visitor) -> None:
    response = begun(stand, visitor)
    request = stand.asked()
    assert isinstance(request, StreamRequest)
    large = InferResponse("m", 7, 3, {"y": np.zeros((1, 400_000), np.float32)})
    stand.tell(large, final=False)
    eventually(lambda: not request.flow.has_room)
    event(response)
    assert len(event(response)["y"]) == 400_000
    eventually(lambda: request.flow.has_room)
    stand.give(3, final=True)
    assert event(response)["y"] == 3
    assert response.read() == b""


def test_a_client_that_goes_after_it_was_held(stand: Stand, visitor: Visitor) -> None:
    response = begun(stand, visitor)
    request = stand.asked()
    assert isinstance(request, StreamRequest)
    large = InferResponse("m", 7, 3, {"y": np.zeros((1, 400_000), np.float32)})
    stand.tell(large, final=False)
    eventually(lambda: not request.flow.has_room)
    event(response)
    event(response)
    eventually(lambda: request.flow.has_room)
    response.close()
    visitor.close()
    eventually(lambda: stand.door.withdrawn == 1)


@pytest.mark.hostile("B22 clients of events that go in the middle, or never read")
def test_a_client_that_never_reads_is_cut_off(stand: Stand, visitor: Visitor) -> None:
    stand.web.start(stream_wait=100_000_000)
    begun(stand, visitor)
    stand.tell(InferResponse("m", 7, 3, {"y": np.zeros((1, 400_000), np.float32)}), final=False)
    eventually(lambda: stand.door.withdrawn == 1)
    eventually(lambda: not stand.web.server.connections)


def test_the_daemon_stops(stand: Stand, visitor: Visitor) -> None:
    response = begun(stand, visitor)
    stand.web.call(stand.web.server.close)
    event(response)
    assert "stops" in event(response)["error"]
    assert response.read() == b""
    eventually(lambda: not stand.web.server.connections)
    assert stand.door.withdrawn == 1
