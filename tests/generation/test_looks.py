"""Every model is looked at, in pieces, and again only where something failed or moved since."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from edged.config.schema import ModelConfig
from edged.errors import Code, RuntimeFailureError
from edged.generation.looks import _PIECE, Look, Looks, Seen
from edged.generation.pace import TURNS
from edged.generation.proving import share_of_failures
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.desired import Desired
from edged.serving.lifecycle import Event
from edged.serving.release import ServedRelease
from edged.serving.router import Route
from tests.fakes.model import FakeStored, doubler

COUNT = 2 * _PIECE + 1


def release(name: str) -> ServedRelease:
    item = Desired(f"{1:064x}", FakeStored(doubler(name, 1)), ModelConfig(bundle="x"))
    made = ServedRelease(item.key, item.stored.manifest, item.config, 0)
    for event in (Event.LOAD, Event.LOADED, Event.WARMED):
        made.move(event)
    return made


class House:
    """Many models that serve; each look notes how many models it touched."""

    def __init__(self, count: int = COUNT) -> None:
        self.plane = Dataplane()
        self.releases = [release(f"m{number}") for number in range(count)]
        self.routes = {one.key.model: Route(one.key.model, {1: one}) for one in self.releases}
        self.plane.swap(ServingTable(1, self.routes))
        self.looks = Looks(self.plane)

    def answer(self, number: int, *, error: bool = False) -> None:
        failure = RuntimeFailureError("it broke") if error else None
        self.releases[number].counters.answered("uds:1", failure, 1000)


def end(look: Look) -> tuple[Seen, int]:
    """What was seen, and in how many pieces."""
    turns = 0
    while True:
        try:
            next(look)
        except StopIteration as over:
            return over.value, turns // TURNS
        turns += 1


@pytest.mark.parametrize("code", Code)
def test_what_askers_bring_about_is_not_counted(code: Code) -> None:
    """A device that is asked too much is not well served by another configuration."""
    house = House(1)
    house.plane.refusals["m0", "uds", code] = 9
    ours = {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.FAILED_PRECONDITION, Code.INTERNAL}
    assert (share_of_failures(Seen({}, {}), house.looks.begun()) == (9, 9)) == (code in ours)


def test_all_models_in_pieces() -> None:
    house = House()
    house.answer(0)
    house.answer(COUNT - 1, error=True)
    house.releases[1].move(Event.DIE, "its worker died")
    seen, pieces = end(house.looks.steps())
    assert pieces == 3
    assert len(seen.answers) == COUNT
    assert (share_of_failures(Seen({}, {}), seen), seen.failures) == ((2, 1), 1)
    assert (seen.lost, seen.failed) == ({"m1": "its worker died"}, {"m1"})


def _serve(house: House) -> None:
    rollouts: dict[str, Any] = {"m0": SimpleNamespace(serve=1)}
    house.plane.table = ServingTable(1, house.routes, rollouts)
    end(house.looks.steps())
    rollouts["m0"].serve = 2


@pytest.mark.parametrize(
    "happen",
    [
        lambda house: house.answer(COUNT - 1, error=True),
        lambda house: house.releases[7].move(Event.DIE, "gone"),
        lambda house: house.releases[7].dismiss(away=True),
        lambda house: house.plane.count_refusal("m3", "uds:1", RuntimeFailureError("no")),
        lambda house: house.plane.swap(ServingTable(1, dict(house.routes))),
        _serve,
    ],
)
def test_again_after_whatever_a_verdict_may_hang_on(happen: Callable[[House], None]) -> None:
    """Without any part of ``_Mark``, or the table, one of these fails."""
    house = House()
    end(house.looks.steps())
    assert end(house.looks.steps())[1] == 0
    happen(house)
    assert end(house.looks.steps())[1] == 3
    assert end(house.looks.steps())[1] == 0


def test_what_happens_while_it_is_looked_is_looked_at_once_more() -> None:
    house = House()
    look = house.looks.steps()
    next(look)
    house.answer(0, error=True)  # which was looked at already
    assert end(look)[0].failures == 0
    assert end(house.looks.steps())[0].failures == 1


def test_answers_that_went_well_are_counted_anew_where_a_window_begins() -> None:
    house = House()
    end(house.looks.steps())
    house.answer(0)
    assert share_of_failures(Seen({}, {}), end(house.looks.steps())[0]) == (0, 0)
    assert share_of_failures(Seen({}, {}), house.looks.begun()) == (1, 0)


def test_ahead_of_a_table() -> None:
    house = House()
    table = ServingTable(2, dict(house.routes))
    house.answer(0)
    asyncio.run(house.looks.ahead(table))
    house.plane.swap(table)
    house.answer(0)
    assert share_of_failures(Seen({}, {}), house.looks.begun()) == (1, 0), "looked at once more"
    assert share_of_failures(Seen({}, {}), house.looks.begun()) == (2, 0), "not for the next one"


@pytest.mark.parametrize("between", ["a failure", "another look", "another table"])
def test_what_comes_between_a_look_ahead_and_the_table(between: str) -> None:
    house = House()
    table = ServingTable(2, dict(house.routes))
    asyncio.run(house.looks.ahead(table))
    if between == "a failure":
        house.answer(0, error=True)
    elif between == "another look":
        end(house.looks.steps())  # at the table before
    if between != "another table":
        house.plane.swap(table)
    house.answer(1)
    requests, failures = share_of_failures(Seen({}, {}), house.looks.begun())
    assert (requests, failures) == ((2, 1) if between == "a failure" else (1, 0))


def test_the_broker_is_asked_at_every_look() -> None:
    said = [None, "away", ""]
    looks = Looks(House(1).plane, lambda: said.pop(0))
    assert [looks.begun().link, end(looks.steps())[0].link, end(looks.steps())[0].link] == [
        None,
        "away",
        "",
    ]
