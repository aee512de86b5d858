"""Messages of sequences, over a session and a model that do as they are told.

The model counts: it answers with the sum of all that it was given for a key.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edged.config.keyed import MessageSequenceConfig
from edged.errors import RunError, SequenceNotFoundError
from edged.messages import InferRequest, InferResponse, OnResponse, SequencedRequest
from tests.fakes.door import FakeDoor
from tests.fakes.session import settle
from tests.transports.bindings.test_bindings import Bench, binding, on_loop

BINDING = binding(sequence=MessageSequenceConfig(key="{site}"))


class CountingDoor(FakeDoor):
    """A model that keeps a sum for each key."""

    def __init__(self, *, hold: bool = False) -> None:
        super().__init__(hold=hold)
        self.sums: dict[Any, float] = {}

    def _answer(self, request: InferRequest, on_response: OnResponse) -> None:
        assert isinstance(request, SequencedRequest)
        step = request.sequence
        error = self.errors.pop(0) if self.errors else None
        if error is None and not step.start and step.id not in self.sums:
            error = SequenceNotFoundError("not open")
        outputs = {}
        if error is None:
            before = 0.0 if step.start else self.sums[step.id]
            self.sums[step.id] = before + float(request.inputs["x"].sum())
            outputs = {"sum": np.array([self.sums[step.id]], np.float32)}
        on_response(InferResponse(request.model, 1, 7, outputs, error), True)


def bench(*, hold: bool = False, auto: bool = True) -> Bench:
    made = Bench(BINDING, auto=auto)
    made.door = made.bindings.door = CountingDoor(hold=hold)
    return made


def number(value: float) -> bytes:
    return b'{"a": %d, "b": 0}' % value


def sums(made: Bench, key: str = "x") -> list[float]:
    return [one["sum"] for one in made.session.documents(f"out/{key}")]


@on_loop
async def test_each_key_has_its_own_state_and_begins_by_itself() -> None:
    made = bench()
    for key, value in (("x", 1), ("y", 10), ("x", 2), ("y", 20), ("x", 3)):
        made.session.receive(f"in/{key}", number(value))
    await settle()
    assert (sums(made), sums(made, "y")) == ([1, 3, 6], [10, 30])
    assert len(made.session.acked) == 5
    assert len(made.bindings.lanes) == 0


@on_loop
async def test_one_at_a_time_of_a_key() -> None:
    made = bench(hold=True)
    for value in (1, 2, 3):
        made.session.receive("in/x", number(value))
    made.session.receive("in/y", number(9))
    assert len(made.door.held) == 2, "one of each key"
    while made.door.held:
        made.door.release_all()
        await settle()
    assert sums(made) == [1, 3, 6]


@on_loop
async def test_a_failure_begins_anew_and_stops_nobody() -> None:
    made = bench()
    made.session.receive("in/x", number(1))
    made.session.receive("in/x", b"nonsense")
    made.door.errors = [RunError("it broke")]
    made.session.receive("in/x", number(2))
    made.session.receive("in/x", number(4))
    await settle()
    assert sums(made) == [1, 5], "a state changes by answers alone"
    assert made.counters()["dead_lettered"] == 2
    assert len(made.session.acked) == 4


@on_loop
async def test_what_was_answered_and_comes_again_counts_once() -> None:
    made = bench(auto=False)
    first = made.session.receive("in/x", number(1))
    made.session.disconnect()
    made.session.connect(session_present=True)
    made.session.puback_all()
    again = {"mid": first.mid, "connection": 2, "dup": True}
    made.session.emit(first._replace(**again))
    assert [one.properties[-1] for one in made.session.to("out/x")][1:] == [("edged-dup", "1")]
    made.session.puback_all()
    made.session.receive("in/x", number(2))
    assert sums(made) == [1, 1, 3]
    assert made.session.acked == [first.mid]
    made.session.puback_all()


@on_loop
async def test_what_the_model_still_has_when_the_connection_breaks_counts_once() -> None:
    made = bench(hold=True)
    first = made.session.receive("in/x", number(1))
    made.door.release()  # not open
    made.session.disconnect()
    made.session.connect(session_present=True)
    made.session.emit(first._replace(connection=2, dup=True))
    assert len(made.door.held) == 1, "the one before is still at work"
    made.door.release_all()
    await settle()
    assert sums(made) == [1]
    assert made.door.sums == {"x": 1.0}


@on_loop
async def test_what_comes_again_is_not_taken_for_an_equal_one_that_had_its_identifier_before() -> (
    None
):
    made = bench(hold=True)
    first = made.session.receive("in/x", number(1))
    made.door.release_all()
    await settle()
    other = made.session.receive("in/x", number(10))
    made.session.emit(first)  # a new request, equal in all; the model has not got it yet
    made.session.disconnect()
    made.door.release_all()
    made.session.connect(session_present=True)
    for message in (other, first):
        made.session.emit(message._replace(connection=2, dup=True))
    made.door.release_all()
    await settle()
    assert sums(made) == [1, 11, 12]
    assert made.door.sums == {"x": 12.0}


@on_loop
async def test_a_broker_that_has_forgotten_us_delivers_nothing_again() -> None:
    made = bench(auto=False)
    made.session.receive("in/x", number(1))
    made.session.disconnect()
    assert len(made.bindings.made) == 1
    made.session.connect(session_present=False)
    assert len(made.bindings.made) == 0


@on_loop
async def test_a_level_that_is_empty_is_no_key() -> None:
    made = bench()
    made.session.receive("in/", number(1), response_topic="reply")
    await settle()
    (letter,) = made.letters()
    assert letter["message"].startswith("it belongs to no sequence")
