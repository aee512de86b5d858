"""What is wrong with which model: the same at once and in turns, and true when things change."""

from __future__ import annotations

import asyncio

import pytest

from edged.config.schema import ModelConfig
from edged.generation.reviews import Reviews, is_well
from edged.generation.table import trouble_of
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.desired import Desired
from edged.serving.lifecycle import Event, State
from edged.serving.release import ServedRelease
from edged.serving.router import Route
from edged.telemetry.health import Health
from tests.fakes.model import FakeStored, doubler


def release(name: str, number: int = 1, state: State = State.READY) -> ServedRelease:
    item = Desired(f"{number:064x}", FakeStored(doubler(name, number)), ModelConfig(bundle="x"))
    made = ServedRelease(item.key, item.stored.manifest, item.config, 0)
    made.state, made.reason = state, "why"
    return made


def house(count: int) -> tuple[Dataplane, Health, Reviews]:
    plane, health = Dataplane(), Health()
    routes = {f"m{n}": Route(f"m{n}", {1: release(f"m{n}")}) for n in range(count)}
    plane.swap(ServingTable(1, routes))
    return plane, health, Reviews(plane, health)


@pytest.mark.parametrize("in_turns", [False, True])
def test_degraded_and_restored(in_turns: bool) -> None:
    plane, health, reviews = house(100)
    health.degrade("model.gone", "is not configured any more")
    health.degrade("model.m5", "was ill")
    health.degrade("disk", "of somebody else")
    ill = release("m99", state=State.FAILED)
    ill.is_quarantined = True
    plane.swap(ServingTable(2, {**plane.table.routes, "m99": Route("m99", {1: ill})}))
    broken = {"m7": "7.edgb: no"}
    lost = asyncio.run(reviews.in_turns(broken)) if in_turns else reviews.whole(broken)
    expected = {"disk": "of somebody else", "model.m7": "7.edgb: no"}
    assert health.degradations() == {**expected, "model.m99": "release 1 failed: why"}
    assert lost == {"m99"}
    assert reviews.ready == 99  # m7 answers with what it had


@pytest.mark.parametrize("is_told", [False, True])
def test_what_changes_meanwhile_is_not_forgotten(is_told: bool) -> None:
    """Told from what was seen at first, m0 would be called well in the end."""
    plane, health, reviews = house(100)

    async def work() -> None:
        task = asyncio.create_task(reviews.in_turns({}))
        await asyncio.sleep(0)
        (first,) = plane.table.routes["m0"].releases.values()
        assert isinstance(first, ServedRelease)
        first.move(Event.DIE, "its worker died")
        if is_told:
            reviews.whole({})
        await task

    asyncio.run(work())
    assert health.degradations() == {"model.m0": "release 1 failed: its worker died"}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("fallback", [False, True])
def test_whoever_is_well_has_nothing_to_be_said_of(
    state: State, away: bool, fallback: bool
) -> None:
    for others in ((), (release("m", 2),), (release("m", 2, State.FAILED),)):
        one = release("m", 1, state)
        one.dismiss(away=away)
        last = release("m", 9) if fallback else None
        route = Route("m", {x.number: x for x in (one, *others)}, fallback=last)
        assert is_well(route) == (not trouble_of(route, ""))
