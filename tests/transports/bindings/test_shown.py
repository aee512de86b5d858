"""A binding that only shows: what becomes of requests, suppressed answers and failures."""

from __future__ import annotations

from edged.config.publish import PublishConfig
from edged.config.sparkplug import SparkplugConfig
from edged.errors import RunError
from edged.transports.bindings.sparkplug_node import SparkplugNode
from tests.fakes.session import settle
from tests.transports.bindings.test_bindings import GOOD, Bench, binding, on_loop

SHOWN = SparkplugConfig(device="{site}")


@on_loop
async def test_what_is_suppressed_is_not_shown_and_errors_are_dead_letters() -> None:
    config = binding(to=None, sparkplug=SHOWN, publish=PublishConfig(when="on_change"))
    bench = Bench(config)
    node = bench.bindings.profiles.node = SparkplugNode("g", "n")
    for payload in (GOOD, GOOD, b'{"a": 1, "b": 3}'):
        bench.session.receive("in/hall", payload)
    await settle()
    assert (bench.counters()["answered"], bench.counters()["suppressed"]) == (2, 1)
    assert node.stats()["metrics"] == 1
    bench.door.errors.append(RunError("broken"))
    last = bench.session.receive("in/hall", GOOD)
    await settle()
    assert len(bench.letters()) == 1
    assert last.mid in bench.session.acked


@on_loop
async def test_without_a_node_it_is_acknowledged_all_the_same() -> None:
    bench = Bench(binding(to=None, sparkplug=SHOWN))
    message = bench.session.receive("in/hall", GOOD)
    await settle()
    assert bench.session.acked == [message.mid]


@on_loop
async def test_what_is_about_no_device_is_a_dead_letter() -> None:
    bench = Bench(binding(from_="in/{site}/v", to=None, sparkplug=SHOWN))
    message = bench.session.receive("in//v", GOOD)
    await settle()
    assert bench.session.acked == [message.mid]
    assert len(bench.letters()) == 1
    assert bench.counters()["answered"] == 0
