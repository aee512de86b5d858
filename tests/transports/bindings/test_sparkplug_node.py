"""What a node says, over a session that does as it is told, and what another library reads of it."""

from __future__ import annotations

from typing import Any

import pytest

from edged.config.sparkplug import SparkplugConfig
from edged.processing.readings import Reading
from edged.protocol.broker_session import Subscribed
from edged.protocol.sparkplug import DataType, Metric, encode_sparkplug, read_metrics
from edged.protocol.sparkplug_births import Births
from edged.transports.bindings import sparkplug_node
from edged.transports.bindings.sparkplug_node import SparkplugNode
from tests.fakes.session import FakeSession, settle
from tests.transports.bindings.test_bindings import GOOD, Bench, binding, on_loop
from tests.transports.conftest import until

READINGS = (Reading("label", "text", "label"), Reading("score", "number", "score"))


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparkplug_node, "_REBIRTH_PAUSE_S", 0.05)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparkplug_node, "MOST_DEVICES", 50)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparkplug_node, "_HOST_PAUSE_S", 0.01)


class Rig:
    """A node, and all that it said: kind, device, number, metrics."""

    def __init__(self, **words: Any) -> None:
        self.node = SparkplugNode("g", "n", **words)
        self.session = FakeSession()
        self.node.start(self.session)

    def connect(self, limit: int | None = None) -> dict[str, Any]:
        """As a broker does it; returns the will."""
        will = self.node.death()
        assert (will.topic, will.qos, will.retain) == ("spBv1.0/g/NDEATH/n", 1, False)
        self.session.connect(limit=limit)
        return read_metrics(will.payload)

    def tell(self, device: str = "d", binding: str = "b", **row: Any) -> None:
        self.node.tell(device, binding, READINGS, {"label": "ok", "score": 0.5} | row)

    def command(self, **words: Any) -> None:
        metric = Metric("Node Control/Rebirth", DataType.BOOLEAN, value=True)
        payload = encode_sparkplug([metric], 9)
        self.session.receive("spBv1.0/g/NCMD/n", payload, **words)

    def state(self, at_ms: int, *, online: bool) -> None:
        payload = f'{{"online": {str(online).lower()}, "timestamp": {at_ms}}}'.encode()
        self.session.receive("spBv1.0/STATE/scada", payload, retain=True)

    def said(self) -> list[tuple[str, int | None, dict[Any, Any]]]:
        """And forgets it."""
        found = []
        for one in self.session.of("publish"):
            assert one.qos == (1 if "DEATH" in one.topic else 0) or "DDEATH" in one.topic
            assert not one.retain
            payload = read_metrics(one.payload)
            metrics = {
                metric.get("name", metric.get("alias")): next(
                    (value for key, value in metric.items() if key.endswith("value")), None
                )
                for metric in payload.get("metrics", ())
            }
            found.append((one.topic.removeprefix("spBv1.0/g/"), payload.get("seq"), metrics))
        self.session.log.clear()
        return found


@on_loop
async def test_births_first_and_then_only_what_is_news() -> None:
    rig = Rig()
    rig.tell(label="before the first connection")
    assert rig.said() == []
    will = rig.connect()
    number = will["metrics"][0]["long_value"]
    assert will["metrics"][0]["name"] == "bdSeq"
    assert rig.session.of("subscribe") == [[("spBv1.0/g/NCMD/n", 1)]]
    node = {"bdSeq": number, "Node Control/Rebirth": False}
    assert rig.said() == [
        ("NBIRTH/n", 0, node),
        ("DBIRTH/n/d", 1, {"b/label": "before the first connection", "b/score": 0.5}),
    ]
    rig.tell(), rig.tell(), rig.tell(score=0.75), rig.tell("e")
    assert rig.said() == [
        ("DDATA/n/d", 2, {"b/label": "ok"}),
        ("DDATA/n/d", 3, {"b/score": 0.75}),
        ("DBIRTH/n/e", 4, {"b/label": "ok", "b/score": 0.5}),
    ]
    assert rig.node.stats() | {"state": ""} == {
        "state": "", "problem": None, "devices": 2, "too_large": 0, "metrics": 4, "births": 3,
        "data": 2, "rebirths": 0, "host_online": None,
    }  # fmt: skip


@on_loop
async def test_each_connection_has_a_death_of_its_own_and_births_of_what_is_then() -> None:
    rig = Rig()
    first = rig.connect()["metrics"][0]["long_value"]
    rig.tell()
    rig.session.disconnect()
    assert rig.node.problem == "gone"
    rig.tell(score=0.9)
    rig.said()
    second = rig.connect()["metrics"][0]["long_value"]
    assert second == (first + 1) % 256
    (_, seq, node), (topic, _, device) = rig.said()
    assert (seq, node["bdSeq"]) == (0, second)
    assert (topic, device["b/score"]) == ("DBIRTH/n/d", 0.9)
    await rig.node.stop()
    assert rig.said() == [("NDEATH/n", None, {"bdSeq": second})]


@on_loop
async def test_aliases_are_said_at_birth_and_never_twice() -> None:
    rig = Rig(aliases=True)
    rig.connect()
    rig.tell(), rig.tell("e"), rig.tell(score=0.75), rig.tell("e", label="x")
    born = [read_metrics(one.payload)["metrics"] for one in rig.session.of("publish")[1:3]]
    numbers = [[metric["alias"] for metric in metrics] for metrics in born]
    assert numbers == [[1, 2], [3, 4]]
    assert "alias" not in read_metrics(rig.session.of("publish")[0].payload)["metrics"][1]
    births = Births()
    for one in rig.session.of("publish")[:3]:
        births.hears(one.topic, one.payload)
    data = rig.session.of("publish")[3]
    assert "name" not in read_metrics(data.payload)["metrics"][0]
    named = read_metrics(births.named(data.topic, data.payload))["metrics"][0]
    assert (named["name"], named["double_value"]) == ("b/score", 0.75)
    assert rig.said()[-2:] == [("DDATA/n/d", 3, {2: 0.75}), ("DDATA/n/e", 4, {3: "x"})]


@pytest.mark.usefixtures("soon")
@on_loop
async def test_whoever_asks_hears_all_again_however_often_it_is_asked() -> None:
    rig = Rig()
    rig.connect()
    rig.tell()
    before = rig.said()
    for _ in range(50):
        rig.command()
    rig.session.receive("spBv1.0/g/NCMD/n", b"\xff\xff")
    rig.session.receive("spBv1.0/g/NCMD/n", encode_sparkplug([], 9))
    rig.command(retain=True)
    await until(lambda: len(rig.session.of("publish")) == 2)
    await settle()
    again = rig.said()
    assert [one[:2] for one in again] == [("NBIRTH/n", 0), ("DBIRTH/n/d", 1)]
    assert again[0][2] == before[0][2], "the number of its death is the connection's"
    assert rig.node.stats()["rebirths"] == 1
    assert len(rig.session.acked) == 53


@on_loop
async def test_a_device_that_says_more_or_less_is_born_again() -> None:
    rig = Rig()
    rig.connect()
    rig.tell()
    rig.tell(binding="c")
    rig.node.tell("d", "b", READINGS[:1], {"label": "ok"})
    rig.tell("other", "c")
    rig.said()
    rig.node.keep(["b"])
    assert [(topic, sorted(metrics)) for topic, _, metrics in rig.said()] == [
        ("DDEATH/n/other", []),
        ("DBIRTH/n/d", ["b/label"]),
    ]


@pytest.mark.usefixtures("few")
@on_loop
async def test_many_devices_are_born_a_few_at_a_time_and_the_oldest_die() -> None:
    rig = Rig()
    for number in range(60):
        rig.tell(str(number))
    rig.connect()
    assert len(rig.said()) == 21
    rig.tell("59", score=0.1)
    assert rig.said()[0][0] == "DBIRTH/n/59", "data never comes before its birth"
    await until(lambda: len(rig.session.of("publish")) == 29)
    assert rig.node.stats()["devices"] == 50
    rig.tell("60")
    assert [one[0] for one in rig.said()][-2:] == ["DDEATH/n/10", "DBIRTH/n/60"]


@on_loop
async def test_the_numbers_go_round_and_what_is_too_large_is_not_said() -> None:
    rig = Rig()
    rig.connect(limit=400)
    for number in range(300):
        rig.tell(score=float(number))
    numbers = [seq for _, seq, _ in rig.said()]
    assert numbers == [number % 256 for number in range(301)]
    rig.tell(label="x" * 400)
    assert [one[0] for one in rig.said()] == ["DDEATH/n/d"], "what was said is out of date"
    rig.tell(label="x" * 400, score=1.0)
    assert rig.said() == []
    assert "larger than the 400 bytes" in (rig.node.problem or "")
    assert rig.node.stats()["too_large"] == 1
    rig.tell()
    assert [one[0] for one in rig.said()] == ["DBIRTH/n/d"]
    assert (rig.node.problem, rig.node.stats()["too_large"]) == (None, 0)


@pytest.mark.usefixtures("quick")
@on_loop
async def test_nothing_is_said_before_the_primary_host_is_there_nor_when_it_went() -> None:
    rig = Rig(host="scada")
    first = rig.connect()["metrics"][0]["long_value"]
    assert rig.session.of("subscribe") == [[("spBv1.0/g/NCMD/n", 1), ("spBv1.0/STATE/scada", 1)]]
    rig.tell()
    rig.command()
    rig.state(1000, online=False)
    rig.tell(score=0.75)
    assert rig.said() == []
    assert rig.node.problem == 'the primary host "scada" is not online'
    rig.state(1000, online=True)
    assert rig.node.problem is None
    assert [one[:2] for one in rig.said()] == [("NBIRTH/n", 0), ("DBIRTH/n/d", 1)]
    rig.state(2000, online=True)
    rig.state(1999, online=False)  # the will of its last connection, overtaken by its next birth
    rig.tell(score=0.5)
    assert rig.said() == [("DDATA/n/d", 2, {"b/score": 0.5})]
    rig.state(2000, online=False)
    rig.tell(score=0.25)
    assert rig.said() == [("NDEATH/n", None, {"bdSeq": first})]
    await until(lambda: rig.session.stopped)
    assert rig.node.stats()["host_online"] is False
    # The next connection, with a will of its own, waits again, and then says how it is now.
    await until(lambda: rig.node._return_timer is not None)
    second = rig.connect()["metrics"][0]["long_value"]
    assert second == (first + 1) % 256
    assert rig.said() == []
    rig.state(2500, online=True)
    (_, seq, node), (topic, _, device) = rig.said()
    assert (seq, node["bdSeq"], topic, device["b/score"]) == (0, second, "DBIRTH/n/d", 0.25)
    await rig.node.stop()
    assert rig.said() == [("NDEATH/n", None, {"bdSeq": second})]


@on_loop
async def test_a_node_that_ends_while_its_host_is_away_says_no_death_and_stays_away() -> None:
    rig = Rig(host="scada")
    rig.connect()
    rig.state(1000, online=True)
    rig.state(1000, online=False)
    rig.said()
    await rig.node.stop()
    await settle()
    assert rig.said() == []
    assert rig.node._return_timer is None


@on_loop
async def test_a_refused_subscription_to_the_host_is_said() -> None:
    rig = Rig(host="scada")
    rig.session.auto = False
    rig.connect()
    rig.session.emit(Subscribed(1, 1, (("spBv1.0/STATE/scada", "not authorised"),)))
    assert rig.node.problem is not None
    assert rig.node.problem.endswith("not authorised")


SHOWN = SparkplugConfig(device="{site}")


@on_loop
async def test_a_binding_shows_its_answers_beside_to_or_alone() -> None:
    rig = Rig()
    rig.connect()
    rig.said()
    bench = Bench(
        binding("vib", sparkplug=SHOWN),
        binding("alone", from_="else/{site}", to=None, sparkplug=SHOWN),
    )
    bench.bindings.profiles.node = rig.node
    first = bench.session.receive("in/hall", GOOD)
    second = bench.session.receive("else/hall", GOOD)
    third = bench.session.receive("else/hall", GOOD, response_topic="r/1")
    await settle()
    assert len(bench.session.to("out/hall")) == len(bench.session.to("r/1")) == 1
    assert bench.session.acked == [first.mid, second.mid, third.mid]
    assert bench.counters("alone")["answered"] == 2
    assert rig.said() == [
        ("DBIRTH/n/hall", 1, {"vib/sum": 3.0}),
        ("DBIRTH/n/hall", 2, {"vib/sum": 3.0, "alone/sum": 3.0}),
    ]


def test_devices_that_the_broker_does_not_take_keep_no_others_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sparkplug_node, "_PAUSE_S", 0)

    @on_loop
    async def work() -> None:
        rig = Rig()
        for number in range(25):
            rig.tell(f"large{number}", label="x" * 500)
        rig.tell("small")
        rig.connect(limit=400)
        await until(lambda: rig.node.births == 2)
        await settle(50)
        for _ in range(3):
            rig.tell("large0", label="x" * 501)
        assert len(caplog.records) == 25, "each is said to be too large once a connection"
        rig.tell("large0", label="short now")
        assert [one[0] for one in rig.said()][-1] == "DBIRTH/n/large0"
        rig.session.disconnect()
        rig.connect()
        await until(lambda: rig.node.births == 3 + 1 + 26)

    work()


@pytest.mark.usefixtures("soon")
@on_loop
async def test_a_device_whose_birth_did_not_leave_is_not_born() -> None:
    rig = Rig()
    rig.session.auto = False
    rig.connect()
    rig.tell("a")
    rig.session.puback()  # the node's birth left, the broker read no more
    rig.tell("b")
    before = rig.said()
    assert [one[0] for one in before] == ["NBIRTH/n", "DBIRTH/n/a", "DBIRTH/n/b"]
    rig.session.puback(code=0x97)
    assert "because" in (rig.node.problem or "")
    assert rig.node.births == 2
    rig.tell("a", score=1.0)
    rig.tell("c")
    assert rig.said() == [], "nobody would know what it is about"
    rig.session.puback(code=0x97)
    await until(lambda: len(rig.session.of("publish")) == 4)
    assert [one[:2] for one in rig.said()] == [
        ("NBIRTH/n", 0), ("DBIRTH/n/b", 1), ("DBIRTH/n/a", 2), ("DBIRTH/n/c", 3)
    ]  # fmt: skip
    rig.session.puback_all()
    assert rig.node.problem is None
    assert rig.node.births == 1 + 4
    rig.tell("a", score=2.0)
    assert [one[0] for one in rig.said()] == ["DDATA/n/a"]


@on_loop
async def test_a_node_whose_words_are_refused_says_its_end() -> None:
    rig = Rig()
    rig.session.auto = False
    rig.connect()
    rig.session.puback()
    rig.tell()
    rig.session.puback(code=0x97)
    rig.said()
    await rig.node.stop()
    assert [one[0] for one in rig.said()] == ["NDEATH/n"], "a clean end: the will is not said"


@pytest.mark.usefixtures("soon")
def test_a_broker_that_goes_on_refusing_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @on_loop
    async def work() -> None:
        problems: list[str | None] = []
        rig = Rig(on_change=lambda: problems.append(rig.node.problem))
        rig.session.auto = False
        rig.connect()
        rig.tell()
        problems.clear()
        for _ in range(3):
            await until(lambda: len(rig.session.of("publish")) == 2)
            rig.said()
            rig.session.puback()  # the node's leaves, and then nothing does
            rig.session.puback(code=0x97)
        assert set(problems) == {rig.node.problem}
        assert "because" in (rig.node.problem or "")
        assert len([one for one in caplog.messages if "takes no births" in one]) == 1
        await until(lambda: len(rig.session.of("publish")) == 2)
        rig.session.puback_all()
        assert rig.node.problem is None

    work()


@on_loop
async def test_where_the_node_cannot_be_born_nothing_is_said() -> None:
    rig = Rig()
    rig.connect(limit=60)
    rig.tell()
    assert rig.said() == []
    assert "that of the node" in (rig.node.problem or "")
    rig.session.disconnect()
    rig.connect()
    assert [one[0] for one in rig.said()] == ["NBIRTH/n", "DBIRTH/n/d"]
    assert rig.node.problem is None
