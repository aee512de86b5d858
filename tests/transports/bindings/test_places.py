"""How many requests a session lets its broker give it, and both clients before a real one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edged.config.keyed import JoinConfig, WindowConfig
from edged.protocol.mqtt import BaseTopics
from edged.transports.bindings.binding_set import prepare_bindings
from edged.transports.bindings.places import Places
from tests.fakes.broker import Device, Mosquitto
from tests.fakes.door import SUM, FakeDoor
from tests.transports.bindings.test_bindings import GOOD, Bench, binding, on_loop
from tests.transports.conftest import Rig, until

SPEEDS = {"slow": 4, "slower": 2, "fast": 1000}


def places(*configs: Any, session: str | None = None, most: int = 64) -> Places:
    found = prepare_bindings(configs, lambda *_: SUM, BaseTopics("edged/n"))
    return Places(most, session, lambda: found, lambda model, _: SPEEDS.get(model, 0))


def asks(model: str, **words: Any) -> Any:
    name = words.pop("name", model.replace("@", "-"))
    return binding(name, from_=f"{name}/{{site}}", model=model, **words)


@pytest.mark.parametrize(
    ("configs", "taken", "shared"),
    [
        ([], 64, 64),
        ([asks("slow")], 4, 64),
        ([asks("slow"), asks("slow", name="again")], 4, 64),
        ([asks("slow"), asks("slow@1")], 8, 8),
        ([asks("slow"), asks("slower")], 6, 6),
        ([asks("slow"), asks("fast")], 64, 64),
        ([asks("slow"), asks("unknown")], 64, 64),
        ([asks("slow"), asks("fast", session="bulk")], 4, 64),
    ],
)
def test_as_many_as_the_models_of_the_session_can_take(
    configs: list[Any], taken: int, shared: int
) -> None:
    found = places(*configs)
    assert found.now == 64, "before the first connection"
    assert found.take(True) == found.now == taken
    assert found.shared == shared
    assert found.take(False) == found.now == found.shared == 64, "MQTT 3.1.1 has no word for it"


def test_a_model_that_cannot_say_keeps_no_session_from_its_broker() -> None:
    found = places(asks("slow"))
    found._capacity = lambda *_: 1 // 0
    assert found.take(True) == found.now == found.shared == 64


def test_what_mostly_gathers_is_not_held_back() -> None:
    window = WindowConfig(rows=2)
    join = JoinConfig(from_="joined/{site}", fields=("b",))
    for words in ({"window": window}, {"join": (join,), "fields": ("a",)}):
        assert places(asks("slow"), asks("slower", **words)).take(True) == 64


@on_loop
async def test_groups_are_left_by_the_places_of_the_connection() -> None:
    few = Places(64, None, lambda: None, None)
    few.now = few.shared = 2
    shared = binding(from_="$share/g/in/{site}")
    bench = Bench(shared, hold=True, places=few, steps_back=True)
    bench.session.receive("in/hall", GOOD)
    assert not bench.bindings.stats()["stepped_back"]
    assert not bench.bindings.is_crowded
    bench.session.receive("in/hall", GOOD)
    assert bench.bindings.stats()["stepped_back"]
    assert bench.bindings.is_crowded
    assert bench.bindings.stats()["places"] == 2


@pytest.mark.parametrize("asked", [["slow"], ["slow", "slower"]])
def test_a_model_that_is_away_for_a_moment_is_waited_for_where_no_other_is_kept_waiting(
    asked: list[str],
) -> None:
    async def work() -> None:
        door = FakeDoor(dict.fromkeys(SPEEDS, SUM))
        own = places(*map(asks, asked))
        bench = Bench(*map(asks, asked), door=door, connect=False, places=own)
        own.take(True)
        bench.session.connect()
        gone = door.manifests.pop("slow")
        for _ in range(own.now):
            bench.session.receive("slow/hall", GOOD)
        door.manifests["slow"] = gone
        await until(lambda: bench.bindings.stats()["in_flight"] == 0)
        counters = bench.counters("slow")
        assert bool(counters["dead_lettered"]) == (len(asked) > 1)
        assert counters["answered"] + counters["dead_lettered"] == own.now

    asyncio.run(work())


@pytest.mark.broker
def test_a_broker_keeps_to_it_from_the_next_connection_on(broker: Mosquitto, client: str) -> None:
    told = iter((3, 5))

    async def main() -> None:
        # A session that ends with its connection: mosquitto 2.0.11 sends more on one that was kept,
        # and three for each acknowledgement, so no more is looked at than what it sends before.
        words = {"session_expiry_s": 0, "places": lambda _: next(told)}
        async with Rig(broker.port, hold=True, **words) as rig:
            for times, most in ((1, 3), (2, 5)):
                await rig.connected(times)
                with Device(broker) as device:
                    for _ in range(10):
                        device.publish("in/hall", GOOD)
                    await until(lambda: len(rig.door.held) == most)  # noqa: B023
                    for _ in range(3):
                        device.publish("nobody/reads", b"")  # a round trip: more could come
                        assert len(rig.door.held) == most
                    while rig.vib["answered"] < 10 * times:
                        rig.door.release_all()
                        await asyncio.sleep(0)
                    await until(lambda: rig.stats["in_flight"] == 0)
                if times == 1:
                    broker.restart()

    asyncio.run(main())
