"""A session for each name that bindings have: before fakes, and before a real broker."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from edged.config.binding import BindingConfig
from edged.protocol.mqtt import BaseTopics
from edged.transports.bindings import sessions as sessions_module
from edged.transports.bindings.binding_set import prepare_bindings
from edged.transports.bindings.bindings import Bindings
from edged.transports.bindings.sessions import Sessions
from edged.transports.mqtt.connection import SessionOptions
from edged.transports.mqtt.native import NativeSession
from edged.transports.mqtt.paho import MqttSession
from tests.fakes.broker import Device
from tests.fakes.door import SUM, FakeDoor
from tests.fakes.session import FakeSession, settle
from tests.transports.conftest import until

GOOD = b'{"a": 1, "b": 2}'
FAST = BindingConfig(name="fast", from_="fast/{x}", to="out/fast/{x}", model="sum")
SLOW = BindingConfig(
    name="slow", from_="slow/{x}", to="out/slow/{x}", model="crawl", session="bulk"
)


class Crawl(FakeDoor):
    """Answers ``sum`` at once, and ``crawl`` when it is released."""

    def submit(self, request, on_response):
        self.hold = request.model == "crawl"
        super().submit(request, on_response)


class Fleet:
    """Sessions by name over fakes."""

    def __init__(self, *configs: BindingConfig, left=()):
        self.sessions: dict[str | None, FakeSession] = {}
        self.door = Crawl({"sum": SUM, "crawl": SUM})
        self.executor = ThreadPoolExecutor(1)
        self.all = Sessions(self._make(None), self._make, left)
        self.swap(*configs)
        self.all.start()
        for session in self.sessions.values():
            session.connect()

    def _make(self, name: str | None) -> Bindings:
        self.sessions[name] = FakeSession()
        return Bindings(
            self.sessions[name], self.door, base="edged/n", executor=self.executor,
            is_main=name is None,
        )  # fmt: skip

    def swap(self, *configs: BindingConfig) -> None:
        made = prepare_bindings(configs, self.door.manifest, BaseTopics("edged/n"))
        self.all.swap(made)


def test_who_moved_to_another_way_is_answered_twice_for_a_while_only(monkeypatch):
    """MQTT 3.1.1 does not say for which filter a message came."""
    monkeypatch.setattr(sessions_module, "_LEAVING_S", 0.05)
    every = BindingConfig(name="all", from_="fast/#", to="out/all", model="sum")

    async def main():
        fleet = Fleet(FAST, every)
        main = fleet.sessions[None]
        both = prepare_bindings([FAST, every], fleet.door.manifest, BaseTopics("edged/n"))
        fleet.all.swap(both.left_by(both.bindings[:1]))

        def answers():
            main.log.clear()
            main.receive("fast/1", GOOD)
            return sorted(one.topic for one in main.of("publish"))

        assert answers() == ["out/all", "out/fast/1"], "better twice than not at all"
        await until(lambda: answers() == ["out/all"])
        other = prepare_bindings([], fleet.door.manifest, BaseTopics("edged/n"))
        fleet.all.swap(other)
        assert answers() == ["out/fast/1"], "nobody else reads it"
        fleet.all.swap(both.left_by(both.bindings[:1]))
        await fleet.all.drain(0)
        assert fleet.all._timer is None

    asyncio.run(asyncio.wait_for(main(), 20))


def test_each_binding_is_in_its_session_and_one_speaks_for_the_daemon():
    async def main():
        fleet = Fleet(FAST, SLOW)
        assert fleet.sessions[None].of("subscribe") == [[("fast/+", 1)]]
        assert fleet.sessions["bulk"].of("subscribe") == [[("slow/+", 1)]]
        fleet.all.announce({"version": "1"}, [])
        assert fleet.sessions[None].to("edged/n/status")
        assert not fleet.sessions["bulk"].of("publish")
        fleet.sessions["bulk"].receive("slow/1", GOOD)
        found = fleet.all.stats()
        assert found["in_flight"] == 1
        assert found["oldest_unacked_s"] >= 0
        assert {name: one["received"] for name, one in found["bindings"].items()} == {
            "fast": 0,
            "slow": 1,
        }
        assert found["sessions"]["bulk"]["in_flight"] == 1
        fleet.door.release_all()
        await settle()
        await fleet.all.drain(1)
        assert all(session.stopped for session in fleet.sessions.values())
        assert not fleet.sessions["bulk"].to("edged/n/status")

    asyncio.run(main())


def test_problems_of_any_session_are_said():
    async def main():
        fleet = Fleet(FAST, SLOW)
        assert fleet.all.problem is None
        fleet.sessions["bulk"].disconnect("gone")
        assert fleet.all.problem == "session bulk: gone"
        fleet.sessions[None].disconnect("all gone")
        assert fleet.all.problem == "all gone"

    asyncio.run(main())


def test_which_session_has_no_connection(monkeypatch):
    async def main():
        fleet = Fleet(FAST, SLOW)
        assert fleet.all.cut == ""
        monkeypatch.setattr(fleet.sessions["bulk"], "stats", lambda: {"state": "connecting"})
        assert fleet.all.cut == "session bulk"
        monkeypatch.setattr(fleet.sessions[None], "stats", lambda: {"state": "connecting"})
        assert fleet.all.cut == "the main session"

    asyncio.run(main())


def test_a_binding_that_moves_is_answered_where_its_messages_are():
    async def main():
        moved = BindingConfig(
            name="fast", from_="fast/{x}", to="out/fast/{x}", model="sum", session="own"
        )
        fleet = Fleet(FAST)
        fleet.swap(moved)
        fleet.sessions["own"].connect()
        assert fleet.sessions["own"].of("subscribe") == [[("fast/+", 1)]]
        assert fleet.sessions[None].of("unsubscribe") == [["fast/+"]]
        late = fleet.sessions[None].receive("fast/1", GOOD)
        await settle()
        assert fleet.sessions[None].acked == [late.mid]
        assert len(fleet.sessions[None].to("out/fast/1")) == 1
        assert fleet.all.stats()["unmatched"] == 0
        # Its topics are everybody's: an answer sent there would come back as a request.
        fleet.sessions[None].receive("fast/1", GOOD, response_topic="fast/2")
        await settle()
        assert not fleet.sessions[None].to("fast/2")

    asyncio.run(main())


def test_a_session_without_bindings_gives_back_what_it_had():
    async def main():
        fleet = Fleet(FAST, left=("old",))
        assert "old" in fleet.sessions
        fleet.swap(FAST, SLOW)
        fleet.sessions["bulk"].connect()
        fleet.swap(FAST)
        assert fleet.sessions["bulk"].of("unsubscribe") == [["slow/+"]]

    asyncio.run(main())


@pytest.mark.broker
@pytest.mark.parametrize("kind", [MqttSession, NativeSession])
@pytest.mark.parametrize("session", [None, "bulk"])
def test_a_slow_model_stops_a_fast_one_only_in_the_same_session(broker, kind, session):
    """mosquitto #3188: one missing PUBACK blocks other topics."""

    async def main():
        door, executor = Crawl({"sum": SUM, "crawl": SUM}), ThreadPoolExecutor(1)
        options = SessionOptions(
            "edged-n", "edged/n", host="127.0.0.1", port=broker.port, max_inflight=2
        )

        def make(name: str | None) -> Bindings:
            words = options if name is None else options.named(name)
            return Bindings(
                kind(words), door, base="edged/n", executor=executor, max_inflight=2,
                is_main=name is None,
            )  # fmt: skip

        slow = BindingConfig(
            name="slow", from_="slow/{x}", to="out/slow/{x}", model="crawl", session=session
        )
        sessions = Sessions(make(None), make)
        sessions.swap(prepare_bindings([FAST, slow], door.manifest, BaseTopics("edged/n")))
        sessions.start()
        await until(lambda: sessions.problem is None)
        with Device(broker, "out/#") as device:
            for number in range(5):
                device.publish(f"slow/{number}", GOOD)
            await until(lambda: len(door.held) == 2)
            device.publish("fast/1", GOOD)
            if session is None:
                await asyncio.sleep(0.3)
                assert device.inbox.empty(), "the control: the slow one has every place"
            else:
                await until(lambda: not device.inbox.empty())
                assert device.one().topic == "out/fast/1"
            assert len(door.held) == 2
            while sessions.stats()["bindings"]["slow"]["answered"] < 5:
                door.release_all()
                await asyncio.sleep(0.01)
            await until(lambda: sessions.stats()["bindings"]["fast"]["answered"] == 1)
        await sessions.drain(5)
        executor.shutdown()

    asyncio.run(main())
