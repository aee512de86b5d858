"""Results on their way to another broker, over a session that does as it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from edged.config.binding import BindingConfig
from edged.outbox.age import Moment
from edged.outbox.outbox import Outbox
from edged.protocol.broker_session import Message, Publication
from edged.protocol.mqtt import OFFLINE, ONLINE
from edged.transports.bindings.forwarding import Forwarder, identify
from tests.fakes.cut_disk import CutDisk
from tests.fakes.session import FakeSession, settle
from tests.transports.conftest import until

BOOT = b"8 bytes."
STATUS = "edged/n/status"


def binding(**words: Any) -> BindingConfig:
    return BindingConfig(name="b", from_="in/{id}", to="out/{id}", model="m", **words)


def request(mid: int = 1, **words: Any) -> Message:
    values = {"qos": 1, "retain": False, "dup": False, "arrived_ns": 0, "correlation": b"c"}
    return Message(1, mid, "in/1", b"{}", **(values | words))


class Bench:
    """A forwarder; the outbox's steps are the test's."""

    def __init__(self, disk: CutDisk | None = None, *, rate: int = 0, window: int = 8) -> None:
        self.session = FakeSession(auto=False)
        self.at_s = 100.0
        self.changes = 0
        self.mids = 100
        self.kept: list[str] = []
        self.reasons: list[str] = []
        loop = asyncio.get_running_loop()
        self.disk = disk or CutDisk()
        self.outbox = Outbox(
            self.disk, loop.call_soon, max_bytes=1 << 20,
            clock=lambda: Moment(BOOT, int(self.at_s * 1e9), 0),
        )  # fmt: skip
        self.outbox.open()
        self.forwarder = Forwarder(
            self.session, self.outbox, base="edged/n", window=window, rate=rate,
            on_change=self._changed,
        )  # fmt: skip
        self.forwarder.start()

    def _changed(self) -> None:
        self.changes += 1

    def on_kept(self, name: str) -> Callable[[str], None]:
        return lambda reason: self.reasons.append(reason) if reason else self.kept.append(name)

    def keep(
        self, *names: str, config: BindingConfig | None = None, topic: str = "out/1", **words: Any
    ) -> None:
        for name in names:
            self.mids += 1
            message = request(self.mids)
            publication = Publication(topic, name.encode(), **words)
            self.forwarder.keep(publication, config or binding(), message, self.on_kept(name))

    async def step(self, times: int = 3) -> None:
        for _ in range(times):
            self.outbox.step()
            await settle(4)

    def sent(self) -> list[str]:
        return [one.payload.decode() for one in self.session.of("publish") if one.topic != STATUS]

    def connect(self, **words: Any) -> None:
        self.session.connect(**words)
        self.session.puback()  # the status


def on_loop(test: Callable[..., Any]) -> Callable[..., None]:
    def run() -> None:
        asyncio.run(test())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


@pytest.mark.hostile("E13 a broker that is away while results are made")
@on_loop
async def test_kept_while_the_broker_is_away_and_sent_in_order_when_it_comes() -> None:
    bench = Bench(window=2)
    bench.keep("a", "b", "c")
    assert bench.kept == []
    await bench.step()
    assert bench.kept == ["a", "b", "c"]
    assert bench.sent() == []
    assert "not connected" in (bench.forwarder.problem or "")
    bench.connect()
    assert bench.forwarder.problem is None
    await bench.step()
    assert bench.sent() == ["a", "b"], "not more than the window"
    bench.session.puback()
    await bench.step()
    assert bench.sent() == ["a", "b", "c"]
    bench.session.puback_all()
    await bench.step()
    stats = bench.forwarder.stats()
    assert (stats["outbox"]["delivered"], stats["outbox"]["entries"], stats["on_way"]) == (3, 0, 0)
    assert bench.session.of("publish")[0] == Publication(STATUS, ONLINE, retain=True)


@on_loop
async def test_what_was_not_acknowledged_is_sent_again_marked_before_what_is_new() -> None:
    bench = Bench()
    bench.connect()
    bench.keep("a", "b")
    await bench.step()
    _, second = bench.session.open
    bench.session.puback(second)
    bench.session.disconnect()
    bench.keep("c")
    await bench.step()
    bench.connect()
    await bench.step()
    assert bench.sent() == ["a", "b", "a", "c"]
    again = [one for one in bench.session.of("publish") if one.topic != STATUS][2:]
    assert [one.properties for one in again] == [(("edged-dup", "1"),), ()]


@on_loop
async def test_a_restart_delivers_what_an_earlier_process_kept() -> None:
    bench = Bench()
    bench.keep("a", "b")
    await bench.step()
    again = Bench(bench.disk.after_kill())
    again.connect()
    await again.step()
    assert again.sent() == ["a", "b"]


@pytest.mark.hostile("E2 a request that is delivered again after our restart")
@on_loop
async def test_a_request_that_comes_again_is_known() -> None:
    bench = Bench()
    config = binding()
    bench.forwarder.keep(Publication("out/1", b"a"), config, request(5), bench.on_kept("a"))
    await bench.step()
    again = Bench(bench.disk.after_kill()).forwarder
    assert again.answered(request(5, dup=True), "b")
    assert not again.answered(request(5), "b"), "not marked as repeated: a new one"
    assert not again.answered(request(6, dup=True), "b")
    assert not again.answered(request(5, dup=True), "other")
    assert not again.answered(request(5, dup=True, correlation=b"d"), "b")


@pytest.mark.hostile("E2 a request that is delivered again after our restart")
@on_loop
async def test_without_correlation_data_it_is_answered_again() -> None:
    """Two requests may be equal to the last byte: twice is possible, lost is not."""
    bench = Bench()
    bare = request(5, correlation=None)
    bench.forwarder.keep(Publication("out/1", b"a"), binding(), bare, bench.on_kept("a"))
    await bench.step()
    assert not bench.forwarder.answered(bare._replace(dup=True), "b")


@on_loop
async def test_one_that_comes_again_while_it_waits_is_kept_once() -> None:
    """A connection that comes and goes while the outbox is full must not fill the memory."""
    bench = Bench()
    for name in ("first", "second", "third"):
        publication = Publication("out/1", name.encode())
        message = request(5, correlation=None, dup=name != "first")
        bench.forwarder.keep(publication, binding(), message, bench.on_kept(name))
    await bench.step()
    assert bench.kept == ["third"]
    bench.connect()
    await bench.step()
    assert bench.sent() == ["first"]


@on_loop
async def test_expiry_counts_on_the_disk() -> None:
    bench = Bench()
    bench.keep("gone", expiry_s=5)
    bench.keep("here", expiry_s=60)
    await bench.step()
    bench.at_s += 20
    bench.connect()
    await bench.step()
    assert bench.sent() == ["here"]
    assert bench.session.to("out/1")[0].expiry_s == 40
    assert bench.forwarder.stats()["outbox"]["expired"] == 1


@on_loop
async def test_a_refusal_is_counted_and_stops_nobody() -> None:
    bench = Bench()
    bench.connect()
    bench.keep("a", "b")
    await bench.step()
    bench.session.puback(code=0x87)
    bench.session.puback()
    await bench.step()
    outbox = bench.forwarder.stats()["outbox"]
    assert (outbox["refused"], outbox["delivered"]) == (1, 1)


@on_loop
async def test_a_quota_is_waited_for() -> None:
    bench = Bench()
    bench.connect()
    bench.keep("a")
    await bench.step()
    bench.session.puback(code=0x97)
    bench.keep("b")
    await bench.step()
    assert bench.sent() == ["a"], "nothing while the broker has no room"
    bench.forwarder._resume()
    await bench.step()
    assert bench.sent() == ["a", "a"], "one by one on a topic that had a refusal"
    bench.session.puback_all()
    await bench.step()
    assert bench.sent() == ["a", "a", "b"]
    bench.session.puback_all()
    await bench.step()
    assert bench.forwarder.stats()["outbox"]["delivered"] == 2


@on_loop
async def test_what_overtook_a_refused_one_is_sent_again_after_it() -> None:
    """The order of a topic: the last that a reader hears is the newest."""
    bench = Bench()
    bench.connect()
    bench.keep("a", "b", "c")
    bench.keep("other", topic="out/2")
    await bench.step()
    first, second, third, fourth = bench.session.open
    bench.session.puback(third)
    bench.session.puback(first, code=0x97)
    bench.session.puback(second)
    bench.session.puback(fourth)
    bench.keep("d")
    await bench.step()
    assert bench.sent() == ["a", "b", "c", "other"]
    bench.forwarder._resume()
    for _ in range(4):
        await bench.step()
        bench.session.puback_all()
    await bench.step()
    assert bench.sent()[4:] == ["a", "b", "d"], "c was the broker's before the refusal was known"
    again = [one for one in bench.session.of("publish") if one.topic == "out/1"][3:]
    assert [bool(one.properties) for one in again] == [False, True, False]
    assert bench.forwarder.stats()["outbox"]["delivered"] == 5


@on_loop
async def test_one_that_waits_for_the_rate_stays_behind_a_refused_one() -> None:
    """Also at a rate so low that a tenth of a second has no whole result."""
    bench = Bench(rate=5, window=2)
    bench.keep("a", "b")
    await bench.step()
    bench.at_s += 5
    bench.connect()
    await until(lambda: bench.sent() == ["a"])
    bench.session.puback(code=0x97)
    assert [one.sequence for one in bench.forwarder._again] == [1, 2]
    bench.forwarder._resume()
    await until(lambda: bench.sent() == ["a", "a"])
    bench.session.puback()
    await until(lambda: bench.sent() == ["a", "a", "b"])


@on_loop
async def test_too_large_for_the_broker() -> None:
    bench = Bench()
    bench.keep("x" * 500, "y")
    await bench.step()
    bench.connect(limit=400)
    await bench.step()
    assert bench.sent() == ["y"]
    assert bench.forwarder.max_packet_bytes == 400
    assert bench.forwarder.stats()["outbox"]["refused"] == 1


@on_loop
async def test_a_replay_has_its_rate_and_what_is_new_has_none() -> None:
    bench = Bench(rate=100, window=1000)
    bench.keep(*(f"{one}" for one in range(40)))
    await bench.step()
    bench.at_s += 5
    begun = time.monotonic()
    bench.connect()
    await bench.step()
    while len(bench.sent()) < 40:
        await asyncio.sleep(0.005)
        bench.outbox.step()
    assert time.monotonic() - begun >= 0.29  # 40 at 100 a second, ten of them at once
    assert bench.sent() == [f"{one}" for one in range(40)]
    bench.at_s -= 5
    names = [f"new {one}" for one in range(500)]
    bench.keep(*names)
    bench.forwarder._up_since_s = 0.0
    await bench.step()
    assert bench.sent()[40:] == names


@on_loop
async def test_each_policy_and_durability_reaches_the_outbox() -> None:
    bench = Bench()
    bench.keep("a", "b", config=binding(when_full="latest_only"))
    await bench.step()
    assert bench.forwarder.stats()["outbox"]["superseded"] == 1
    syncs = bench.disk.syncs_done
    bench.keep("c", config=binding(durability="async"))
    bench.keep("d", config=binding(qos=0))
    bench.forwarder.pass_on(Publication("out/1", b"piece"), binding(), bench.on_kept("piece"))
    await bench.step()
    assert bench.kept[-3:] == ["c", "d", "piece"]
    assert bench.disk.syncs_done == syncs
    bench.keep("e")
    await bench.step()
    assert bench.disk.syncs_done == syncs + 1


@on_loop
async def test_something_that_is_no_result_is_left_out() -> None:
    bench = Bench()
    bench.keep("a")
    bench.outbox._pending[0].entry = bench.outbox._pending[0].entry._replace(data=b"\xc1")
    bench.keep("b")
    bench.connect()
    await bench.step()
    assert bench.sent() == ["b"]


@on_loop
async def test_the_goodbye_is_heard_and_nothing_is_lost() -> None:
    bench = Bench()
    bench.connect()
    bench.keep("a")
    await bench.step()
    stopping = asyncio.create_task(bench.forwarder.stop())
    await settle()
    assert bench.session.of("publish")[-1] == Publication(STATUS, OFFLINE, retain=True)
    bench.session.puback(bench.session.open[-1])
    await stopping
    assert bench.session.stopped
    assert bench.outbox.take() is not None


@on_loop
async def test_a_broken_disk_is_said() -> None:
    bench = Bench()
    bench.connect()
    bench.keep("a")
    await bench.step()
    before = bench.changes
    bench.disk.fails_sync = True
    bench.keep("b")
    await bench.step()
    assert bench.kept == ["a"]
    assert bench.changes > before
    assert "restart" in (bench.forwarder.problem or "")


def test_requests_are_told_apart() -> None:
    one = request(5)
    others = [
        request(6), one._replace(topic="in/2"), one._replace(payload=b""),
        one._replace(correlation=None), one._replace(response_topic="r"),
    ]  # fmt: skip
    ids = {identify(found, "b") for found in (one, *others)} | {identify(one, "c")}
    assert len(ids) == 7
    assert identify(one._replace(dup=True, connection=9, arrived_ns=5), "b") == identify(one, "b")
