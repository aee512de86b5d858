"""Several answers to one request through the client, the real server and a real socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged.client import Client
from edged.errors import (
    DeadlineExceededError,
    DisconnectedError,
    DrainingError,
    InvalidRequestError,
    QueueFullError,
)
from edged.messages import InferRequest
from edged.protocol import streams
from edged.protocol.frames import Kind
from tests.fakes.house import LOOPS, House, Peer, eventually, houses
from tests.fakes.streams import RowsDoor

X = np.arange(100, dtype=np.float32).reshape(50, 2)
LARGE = np.zeros((40, 1 << 18), dtype=np.float32)
"""Forty answers of a MiB: no socket takes them all."""


@pytest.fixture(params=LOOPS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    for house in houses(request.param, tmp_path / "s"):
        house.server.door = house.door = RowsDoor()
        yield house.start()


def test_a_loop_goes_over_the_answers(client: Client):
    answers = list(client.stream("m", x=X))
    assert [answer.index for answer in answers] == list(range(51))
    assert [answer.is_last for answer in answers] == [False] * 50 + [True]
    np.testing.assert_array_equal(np.concatenate([one["x"] for one in answers[:-1]]), X)
    assert answers[-1]["rows"] == [50]
    assert (answers[0].model, answers[0].release, answers[0].generation) == ("m", 7, 3)


def test_an_end_without_outputs_is_no_answer(client: Client):
    assert [one.index for one in client.stream("m", x=X[:2], outputs=("x",))] == [0, 1]


def test_leaving_the_loop_withdraws_the_request(house: House, client: Client):
    for answer in client.stream("m", x=X, ahead=1):
        if answer.index == 3:
            break
    eventually(lambda: house.door.streams[0].ended == 1)
    assert house.door.streams[0].given < 8
    assert len(client.infer("m", x=X)) == 1
    stream = client.stream("m", x=X, ahead=1)
    stream.close()
    assert list(stream) == []
    with client.stream("m", x=X, ahead=1) as stream:
        next(stream)
    eventually(lambda: [one.ended for one in house.door.streams] == [1, 1, 1])


def test_a_client_that_does_not_read_is_waited_for(house: House, client: Client):
    stream = client.stream("m", x=LARGE, ahead=1000)
    eventually(lambda: house.door.streams and house.door.streams[0].given)
    house.call(lambda: None)
    (giver,) = house.door.streams
    assert giver.given < 5, "only what the socket takes, and one more"
    assert sum(1 for _ in stream) == 41
    assert giver.ended == 1


def test_others_on_the_connection_go_on(house: House, client: Client):
    slow = client.stream("m", x=X, ahead=2)
    assert next(slow).index == 0
    for _ in range(20):
        client.infer("m", x=X)
    call = client.prepare("m", x=((None, 2), "float32"))
    house.call(setattr, house.door, "is_quiet", True)
    for _ in range(20):
        np.testing.assert_array_equal(call(X[:1])["x"], X[:1])
    assert [one.index for one in slow] == list(range(1, 51))


def test_many_threads_share_a_connection(client: Client):
    seen: dict[int, list[int]] = {}

    def go(number: int) -> None:
        seen[number] = [one.index for one in client.stream("m", x=X, ahead=3)]

    threads = [threading.Thread(target=go, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        client.infer("m", x=X)
    for thread in threads:
        thread.join(20)
    assert seen == {number: list(range(51)) for number in range(6)}


def test_errors_end_it_at_any_time(house: House, client: Client):
    stream = client.stream("m", x=X, ahead=2)
    assert next(stream).index == 0
    house.call(house.door.streams[0].end, QueueFullError("full"))
    assert next(stream).index == 1
    with pytest.raises(QueueFullError, match="full"):
        list(stream)
    assert list(stream) == []
    with pytest.raises(InvalidRequestError, match="0 answers ahead"):
        client.stream("m", x=X, ahead=0)


def test_no_answer_in_time(house: House, client: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("edged.protocol.asking.GRACE_S", 0.0)
    stream = client.stream("m", x=X, ahead=1, timeout=0.5)
    eventually(lambda: house.door.streams)
    house.call(setattr, house.door.streams[0].flow, "is_held", True)
    with pytest.raises(DeadlineExceededError, match="no answer came in time"):
        list(stream)
    eventually(lambda: house.door.streams[0].ended == 1)


def test_a_client_that_dies_ends_its_streams(house: House):
    client = Client(house.path)
    stream = client.stream("m", x=X, ahead=1)
    next(stream)
    client.close()
    with pytest.raises(DisconnectedError):
        list(stream)
    eventually(lambda: house.door.streams[0].ended == 1)


def test_a_client_that_has_said_all_still_gets_its_answers(house: House):
    peer = Peer(house.path)
    peer.send(streams.encode_stream(1, InferRequest("m", {"x": X}), 0, 1))
    peer.socket.shutdown(socket.SHUT_WR)
    kinds = [peer.frame().kind for _ in range(51)]
    assert kinds == [Kind.PART] * 50 + [Kind.RESULT]
    assert peer.is_closed()
    peer.close()


def test_a_daemon_that_stops_says_so(house: House, client: Client):
    stream = client.stream("m", x=X, ahead=1)
    eventually(lambda: house.door.streams)
    house.call(house.server.close)
    assert next(stream).index == 0
    with pytest.raises(DrainingError, match="the daemon stops"):
        list(stream)
