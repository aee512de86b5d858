"""Sequences through the client and the real transport, on either loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged.client import Client
from edged.errors import (
    DisconnectedError,
    InvalidRequestError,
    RunError,
    SequenceNotFoundError,
    TensorMismatchError,
)
from tests.fakes.house import LOOPS, House, houses
from tests.fakes.stateful import door

ONE, BAD = np.ones((1, 3), np.float32), np.full((1, 3), np.nan, np.float32)


@pytest.fixture(params=LOOPS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    for house in houses(request.param, tmp_path / "s"):
        house.server.door = house.door = house.call(door)
        yield house.start()


def open_ones(house: House) -> int:
    release = house.door.table.routes["gate"].releases[1]
    return house.call(lambda: len(release.sequences))


def count(result) -> float:
    """How many requests the model has seen before."""
    return float(result["y"][0, 3])


def test_state_is_kept_as_long_as_it_is_open(house: House, client: Client):
    with client.sequence("gate") as first, client.sequence("gate") as second:
        assert first.id != second.id
        for step in range(3):
            assert count(first.infer(x=ONE)) == step
            assert count(second.infer({"x": ONE}, outputs=("y",))) == step
        assert open_ones(house) == 2
    assert open_ones(house) == 0
    assert not first.is_open
    # It would begin anew.
    assert count(first.infer(x=ONE, end=True)) == 0
    assert open_ones(house) == 0
    first.end()


def test_many_on_their_way(client: Client):
    sequence = client.sequence("gate")
    pending = [sequence.submit(x=ONE) for _ in range(20)]
    last = sequence.submit(x=ONE, end=True)
    assert [count(one.result()) for one in pending] == list(range(20))
    assert count(last.result()) == 20


def test_the_same_id_from_another_connection(house: House, client: Client):
    mine = client.sequence("gate", "mic")
    mine.infer(x=ONE)
    client.close()
    with Client(house.path) as other:
        theirs = other.sequence("gate", "mic")
        theirs.is_open = True
        assert count(theirs.infer(x=ONE)) == 1
    # The connection is made again, and the sequence went on.
    assert count(mine.infer(x=ONE)) == 2
    assert count(client.sequence("gate", 7).infer(x=ONE)) == 0


def test_what_goes_wrong(client: Client):
    sequence = client.sequence("gate")
    with pytest.raises(RunError):
        sequence.infer(x=BAD)
    assert not sequence.is_open, "the first one did not begin it"
    assert count(sequence.infer(x=ONE)) == 0
    with pytest.raises(TensorMismatchError):
        sequence.infer(x=ONE[:, :2])
    with pytest.raises(RunError):
        sequence.infer(x=BAD, end=True)
    assert count(sequence.infer(x=ONE)) == 1
    client.sequence("gate", sequence.id).infer(x=ONE, end=True)
    with pytest.raises(SequenceNotFoundError, match="is not open"):
        sequence.infer(x=ONE)
    sequence.restart()
    assert count(sequence.infer(x=ONE)) == 0


def test_who_asks_in_the_wrong_way(client: Client):
    with pytest.raises(InvalidRequestError, match="needs the id of its sequence"):
        client.infer("gate", x=ONE)
    with pytest.raises(InvalidRequestError, match="a prepared call belongs to none"):
        client.prepare("gate", x=((None, 3), "float32"))
    with pytest.raises(InvalidRequestError, match="keeps nothing from one request"):
        client.sequence("plain").infer(x=np.ones((1, 4), np.float32))
    with pytest.raises(InvalidRequestError, match="expected a text of 1 to 256"):
        client.sequence("gate", "")
    with pytest.raises(InvalidRequestError, match="needs the id"):
        list(client.stream("gate", x=ONE))


def test_leaving_says_nothing_of_a_broken_connection(house: House, tmp_path: Path):
    with Client(house.path) as client:
        sequence = client.sequence("gate")
        sequence.infer(x=ONE)
    gone = Client(tmp_path / "nobody")
    with gone.sequence("gate") as other:
        other.is_open = True
    with pytest.raises(DisconnectedError):
        gone.sequence("gate").infer(x=ONE)
