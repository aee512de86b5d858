"""Bindings that went another way while nobody looked, and what brokers still have for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edged.broker import heirs as module
from edged.broker.heirs import folder_of, lines_left, with_heirs
from edged.broker.link import BrokerLinks
from edged.broker.links import Brokers
from edged.config.binding import BindingConfig
from edged.config.broker_lines import Line, config_of
from edged.config.brokers import NamedBrokerConfig
from edged.config.keyed import WindowConfig
from edged.config.load import Snapshot
from edged.config.mqtt import MqttConfig
from edged.config.schema import Config
from edged.protocol.mqtt import BaseTopics
from edged.specs import Duration
from edged.telemetry.health import Health
from edged.transports.bindings.binding_set import BindingSet, prepare_bindings
from edged.transports.bindings.subscriptions import (
    Remembered,
    SubscriptionMemory,
    sessions_known,
)
from tests.fakes.broker import Device, Mosquitto, free_port
from tests.fakes.door import SUM, FakeDoor
from tests.transports.bindings.test_windowed import WindowDoor
from tests.transports.conftest import until

PLANT, CROSS = Line("plant"), Line("mqtt", "plant")


def binding(name: str, **words: Any) -> BindingConfig:
    return BindingConfig(
        name=name, **{"from_": f"{name}/in", "to": f"{name}/out", "model": "sum"} | words
    )


def config(*bindings: BindingConfig, port: int = 1, plant: int = 0) -> Config:
    return Config(
        node="test",
        mqtt=MqttConfig(host="127.0.0.1", port=port, longest_pause=Duration(10**9)),
        brokers={"plant": NamedBrokerConfig(host="127.0.0.1", port=plant or port)},
        bindings=bindings,
    )


def note(folder: Path, session: str | None = None, **words: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    SubscriptionMemory.of_session(folder, session).save(
        Remembered(**{"held": {}, "past": {}} | words)
    )


def heirs(root: Path, line: Line, found: Config) -> BindingSet:
    own = config_of(found, line).bindings
    made = prepare_bindings(own, lambda *_: SUM, BaseTopics("edged/test"))
    return with_heirs(made, folder_of(root, line), found, line)


def test_who_went_to_another_line_answers_in_the_session_that_it_left(tmp_path: Path) -> None:
    note(tmp_path, held={"b/in": ("b",), "a/in": ("a",)}, past={"c/in": ("c",)})
    note(tmp_path, "bulk", held={"d/in": ("d",)})
    found = config(
        binding("a"),
        binding("b", results="plant"),
        binding("c", broker="plant"),
        binding("d", broker="plant", session="other"),
    )
    made = heirs(tmp_path, Line(), found)
    assert [one.name for one in made.bindings] == ["a"]
    assert [(one.name, one.config.session) for one in made.leaving] == [("b", None), ("d", "bulk")]
    assert [one.name for one in made.past] == ["c"]
    main, bulk = made.part(None), made.part("bulk")
    assert [one.binding.name for one in main.routes("b/in")] == ["b"]
    assert [one.binding.name for one in main.routes("c/in")] == ["c"]
    assert [one.binding.name for one in bulk.routes("d/in")] == ["d"]
    assert main.routes("d/in") == bulk.routes("b/in") == ()
    later = main.after(main).left_by_all().after(main)
    assert [one.binding.name for one in later.routes("b/in")] == ["b"]


def test_of_a_line_that_is_open_they_answer_what_nobody_else_does(tmp_path: Path) -> None:
    note(tmp_path, held={"b/in": ("b",)}, past={"c/in": ("c",)})
    found = config(binding("b", results="plant"), binding("c", results="plant"))
    before = prepare_bindings([binding("b")], lambda *_: SUM, BaseTopics("edged/test"))
    empty = prepare_bindings((), lambda *_: SUM, BaseTopics("edged/test"))
    made = with_heirs(empty, tmp_path, found, Line(), is_new=False)
    assert ([*made.leaving], [one.name for one in made.past]) == ([], ["b", "c"])
    for one in (made, made.with_others(before.bindings), made.left_by(before.bindings)):
        for kept in (one, one.part(None), one.after(before), one.after(one).after(made)):
            for name in "bc":
                assert [route.binding.name for route in kept.routes(f"{name}/in")] == [name]
    routes = made.left_by(before.bindings).after(before).routes("b/in")
    assert [one.binding for one in routes] == [*before.bindings], "by the way that it had"


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("b",), config(binding("b"))),  # it is here
        (("b",), config(binding("b", session="bulk"))),  # of the same line: known otherwise
        (("b",), config(binding("c", from_="b/in", results="plant"))),  # another's
        (("b",), config(binding("b", from_="other/in", results="plant"))),
        (("b",), config(binding("b", from_="b/{", results="plant"))),  # cannot be read
        ((), config(binding("b", results="plant"))),  # noted by an earlier version
    ],
)
def test_nobody_else_does(tmp_path: Path, names: tuple[str, ...], found: Config) -> None:
    note(tmp_path, held={"b/in": names})
    empty = prepare_bindings((), lambda *_: SUM, BaseTopics("edged/test"))
    assert with_heirs(empty, tmp_path, found, Line()) is empty


def test_an_answer_of_qos_2_goes_once_more_at_most_where_its_way_is_not_there(
    tmp_path: Path,
) -> None:
    found = config(binding("b", answer_qos=2), binding("c", answer_qos=2, results="plant"))
    for line, most in ((Line(), 1), (Line("mqtt", "mqtt"), 2)):
        note(folder_of(tmp_path, line), held={"b/in": ("b",), "c/in": ("c",)})
        assert {one.config.answer_qos for one in heirs(tmp_path, line, found).leaving} == {most}


def test_lines_of_earlier_processes_are_found_by_their_folders(tmp_path: Path) -> None:
    found = config(binding("b"))
    assert lines_left(tmp_path, found) == []
    for line in (PLANT, CROSS, Line("plant", "plant", by_disk=True), Line("gone")):
        note(folder_of(tmp_path, line), "bulk", held={"b/in": ("b",)})
    (tmp_path / "brokers" / "empty").mkdir()
    note(folder_of(tmp_path, Line("plant", "mqtt")))
    assert lines_left(tmp_path, found) == [CROSS, PLANT, Line("plant", "plant", by_disk=True)]
    note(folder_of(tmp_path, PLANT), "bulk", past={"b/in": ("b",)})
    module.forget(folder_of(tmp_path, PLANT))
    assert PLANT not in lines_left(tmp_path, found)


def test_what_is_subscribed_to_still_is_not_forgotten(tmp_path: Path) -> None:
    note(tmp_path, held={"b/in": ("b",)}, past={"a/in": ("a",)})
    note(tmp_path, "bulk", past={"c/in": ("c",)})
    module.forget(tmp_path)
    assert sessions_known(tmp_path) == [(None, Remembered({"b/in": ("b",)}, {}))]


class Site:
    """A broker, and daemons that come and go."""

    def __init__(self, root: Path, broker: Mosquitto, door: FakeDoor) -> None:
        self.broker, self.door, self.root = broker, door, root / "state"
        self.root.mkdir(exist_ok=True)
        self.brokers: Brokers | None = None
        self.plant = 0
        """Port of a second broker, where there is one."""

    async def serve(self, *bindings: BindingConfig) -> None:
        """Begin, or go on, with these."""
        if self.brokers is None:
            self.brokers = Brokers(self.door, Health(), self.root)  # type: ignore[arg-type]
        found = config(*bindings, port=self.broker.port, plant=self.plant)
        made = Snapshot(found, self.root, {})
        await self.brokers.swap(made, self.brokers.prepare(made, bindings, self.door.manifest))
        await until(lambda: self.is_up)

    @property
    def is_up(self) -> bool:
        found = self.stats()
        return all(one["subscribed"] for one in (found, *found["brokers"].values()))

    def stats(self) -> dict[str, Any]:
        assert self.brokers is not None
        found = self.brokers.stats()
        assert found is not None
        return found

    async def stop(self) -> None:
        assert self.brokers is not None
        await self.brokers.drain(5)
        self.brokers = None

    @property
    def unmatched(self) -> int:
        found = self.stats()
        return sum(one["unmatched"] for one in (found, *found["brokers"].values()))


def on_site(
    tmp_path: Path, work: Callable[[Site, Device], Any], door: FakeDoor | None = None
) -> None:
    with Mosquitto(tmp_path) as broker, Device(broker, "+/out") as device:
        site = Site(tmp_path, broker, door or FakeDoor())
        asyncio.run(asyncio.wait_for(work(site, device), 90))


LINES = (set[str](), {"mqtt to plant"}, {"plant"}, {"plant", "plant to mqtt"})
"""Beside the first, of each of these."""
WAYS = (
    binding("b"),
    binding("b", results="plant"),
    binding("b", broker="plant", session="bulk"),
    binding("b", broker="plant", results="mqtt"),
)


@pytest.mark.broker
@pytest.mark.parametrize(("before", "after"), [(0, 1), (1, 0), (0, 3), (2, 0), (3, 2)])
def test_what_came_while_the_daemon_was_stopped_is_answered_though_the_binding_moved(
    tmp_path: Path, before: int, after: int
) -> None:
    async def work(site: Site, device: Device) -> None:
        await site.serve(WAYS[before], binding("a"))
        await site.stop()
        for number in range(3):
            device.publish("b/in", json.dumps({"a": number, "b": 0}))
        await site.serve(WAYS[after], binding("a"))
        found = await asyncio.to_thread(device.get, 3)
        assert [json.loads(one.payload)["sum"] for one in found] == [0.0, 1.0, 2.0]
        assert site.unmatched == 0
        # What was only left is closed and forgotten; what comes now goes the new way, once.
        await until(lambda: {*site.stats()["brokers"]} == LINES[after], 20)
        device.publish("b/in", b'{"a": 7, "b": 0}')
        assert json.loads((await asyncio.to_thread(device.one)).payload)["sum"] == 7.0
        await site.stop()
        await site.serve(WAYS[after], binding("a"))
        assert {*site.stats()["brokers"]} == LINES[after]
        await site.stop()
        assert device.inbox.empty()

    on_site(tmp_path, work)


@pytest.mark.broker
def test_rows_of_a_window_go_with_their_binding(tmp_path: Path) -> None:
    """While it runs, and while it stands still: two rows by the first way, one by the second."""

    def window(**words: Any) -> BindingConfig:
        rule = WindowConfig(rows=3)
        return binding("w", model="mean", fields=("v",), window=rule, **words)

    async def work(site: Site, device: Device) -> None:
        def send(*values: float) -> None:
            for value in values:
                device.publish("w/in", json.dumps({"v": value}))

        def gathered() -> int:
            found = site.stats()
            lines = (found, *found["brokers"].values())
            return sum(one["bindings"]["w"]["gathered"] for one in lines if one["bindings"])

        await site.serve(window())
        send(1, 2)
        await until(lambda: gathered() == 2)
        await site.serve(window(results="plant"))
        send(4)
        assert json.loads((await asyncio.to_thread(device.one)).payload)["sum"] == 7.0
        send(10)
        await until(lambda: gathered() == 1)  # by this way; the one before made it whole
        await site.stop()
        send(20)  # for the way that it is about to leave
        await site.serve(window(broker="plant"))
        send(40)
        assert json.loads((await asyncio.to_thread(device.one)).payload)["sum"] == 70.0
        assert site.unmatched == 0
        await site.stop()

    on_site(tmp_path, work, WindowDoor())


@pytest.mark.broker
@pytest.mark.parametrize("session", [None, "bulk"])
def test_what_a_way_out_left_behind_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: str | None
) -> None:
    """A reload takes the last binding of a line while its model is busy for long."""
    monkeypatch.setattr("edged.broker.links._MOVE_S", 0.1)
    monkeypatch.setattr("edged.broker.moves._QUIET_S", 0.02)
    monkeypatch.setattr("edged.broker.link._STOP_S", 0.05)

    async def work(site: Site, device: Device) -> None:
        site.door.hold = True
        await site.serve(binding("b", results="plant", session=session))
        device.publish("b/in", b'{"a": 1, "b": 0}')
        await until(lambda: site.door.held)
        await site.serve(WAYS[0])
        await until(lambda: len(site.door.held) == 2)
        assert {*site.stats()["brokers"]} == {"mqtt to plant"}
        site.door.release_all()
        assert json.loads((await asyncio.to_thread(device.one)).payload)["sum"] == 1.0
        await until(lambda: not site.stats()["brokers"], 20)
        await until(lambda: lines_left(site.root, config(WAYS[0])) == [])
        await site.stop()
        assert device.inbox.empty()

    on_site(tmp_path, work)


@pytest.mark.broker
def test_a_way_that_is_gone_again_in_the_same_breath_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end waits for its turn, and a change that takes it up again comes before."""
    monkeypatch.setattr("edged.broker.moves._QUIET_S", 0.02)

    async def work(site: Site, device: Device) -> None:
        await site.serve(WAYS[1])
        await site.stop()
        await site.serve(WAYS[0])
        brokers = site.brokers
        assert brokers is not None
        assert {*site.stats()["brokers"]} == {"mqtt to plant"}
        made = Snapshot(config(WAYS[1], port=site.broker.port), site.root, {})
        async with brokers._turn:  # as a refresh that takes its time
            begun = brokers._begun
            change = asyncio.ensure_future(
                brokers.swap(made, brokers.prepare(made, [WAYS[1]], site.door.manifest))
            )
            await until(lambda: brokers._begun is not begun)
            begun = brokers._begun
            await until(lambda: brokers._begun is not begun)  # the end, behind the change
        await change
        assert brokers._begun is not None
        await brokers._begun
        await until(lambda: site.is_up)
        device.publish("b/in", b'{"a": 7, "b": 0}')
        assert json.loads((await asyncio.to_thread(device.one)).payload)["sum"] == 7.0
        assert {*site.stats()["brokers"]} == {"mqtt to plant"}
        await site.stop()

    on_site(tmp_path, work)


@pytest.mark.broker
def test_a_filter_that_was_left_with_its_way_is_given_back_with_it_again(tmp_path: Path) -> None:
    """Of two bindings of a way one moves and one is no more; later the way is there again."""

    async def work(site: Site, device: Device) -> None:
        await site.serve(WAYS[1], binding("c", results="plant"))
        await site.serve(WAYS[0])
        await site.serve(WAYS[1])
        device.publish("c/in", b'{"a": 7, "b": 0}')
        device.publish("b/in", b'{"a": 7, "b": 0}')
        await asyncio.to_thread(device.one)
        assert site.unmatched == 0
        await site.stop()

    on_site(tmp_path, work)


@pytest.mark.broker
@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_way_out_stays_until_its_results_are_delivered(tmp_path: Path, is_stopped: bool) -> None:
    async def work(site: Site, device: Device) -> None:
        site.plant = free_port()
        await site.serve(WAYS[1])
        device.publish("b/in", b'{"a": 1, "b": 0}')
        await until(lambda: site.stats()["brokers"]["mqtt to plant"]["acknowledged"] == 1)
        await site.serve(WAYS[0])
        if is_stopped:
            await site.stop()
            await site.serve(WAYS[0])
        (tmp_path / "plant").mkdir()
        with Mosquitto(tmp_path / "plant", f"listener {site.plant} 127.0.0.1") as plant:
            with Device(plant, "b/out") as there:
                assert json.loads((await asyncio.to_thread(there.one)).payload)["sum"] == 1.0
            await until(lambda: not site.stats()["brokers"], 20)
        await site.stop()
        assert device.inbox.empty()

    on_site(tmp_path, work)


@pytest.mark.broker
def test_a_way_out_takes_another_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    whole = BrokerLinks.refresh

    async def refresh(self: BrokerLinks, snapshot: Snapshot) -> None:
        looked.append(self)
        await whole(self, snapshot)

    async def work(site: Site, device: Device) -> None:
        await site.serve(WAYS[1])
        await site.stop()
        await site.serve(WAYS[0])
        assert site.brokers is not None
        lines = [*site.brokers._lines.values()]
        assert len(lines) == 2
        await site.brokers.refresh(Snapshot(config(WAYS[0], port=site.broker.port), site.root, {}))
        assert looked == lines
        await site.stop()
        assert device.inbox.empty()

    monkeypatch.setattr(BrokerLinks, "refresh", refresh)
    on_site(tmp_path, work)
