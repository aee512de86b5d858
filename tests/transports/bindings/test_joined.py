"""Topics joined to one input: what goes together, how old it may be, and what is acknowledged when."""

from __future__ import annotations

from typing import Any

from edged.config.keyed import JoinConfig
from edged.outbox.age import age_ns, now
from edged.specs import Duration, FieldSpec
from edged.transports.bindings.keyed_states import KeyedStates
from tests.fakes.session import settle
from tests.transports.bindings.test_bindings import Bench, binding, on_loop
from tests.transports.bindings.test_windowed import SlowKeeper
from tests.transports.conftest import until


def bench(
    keeper: SlowKeeper | None = None, restored: dict[bytes, bytes] | None = None,
    *, source: str = "hum/{site}", **part: Any,
) -> Bench:  # fmt: skip
    states = KeyedStates()
    if keeper is not None:
        states.adopt(keeper, restored or {})
    words = {"fields": ("h",), "keep": "disk" if keeper else "memory"} | part
    config = binding(fields=("t",), join=(JoinConfig(from_=source, **words),))
    return Bench(config, states=states)


def sums(made: Bench, key: str = "x") -> list[float]:
    return [one["sum"] for one in made.session.documents(f"out/{key}")]


@on_loop
async def test_the_latest_of_the_same_level_goes_with_a_message() -> None:
    made = bench()
    assert made.session.of("subscribe") == [[("in/+", 1), ("hum/+", 1)]]
    for topic, payload in (
        ("hum/x", b'{"h": 10}'), ("hum/y", b'{"h": 500}'), ("in/x", b'{"t": 1}'),
        ("hum/x", b'[{"h": 7}, {"h": 20}]'), ("in/x", b'[{"t": 1}, {"t": 2}]'), ("in/y", b'{"t": 3}'),
    ):  # fmt: skip
        made.session.receive(topic, payload)
    await settle()
    first, second = made.session.documents("out/x")
    assert first["sum"] == 11
    assert [row["sum"] for row in second["rows"]] == [21, 22]
    assert sums(made, "y") == [503]
    counters = made.counters()
    assert (counters["gathered"], counters["answered"]) == (3, 3)
    assert len(made.session.acked) == 6


@on_loop
async def test_a_topic_without_levels_goes_with_every_message() -> None:
    made = bench(source="weather")
    made.session.receive("weather", b'{"h": 1}')
    for key in "xy":
        made.session.receive(f"in/{key}", b'{"t": 2}')
    await settle()
    assert (sums(made), sums(made, "y")) == ([3], [3])


@on_loop
async def test_nothing_yet_and_nothing_young_enough() -> None:
    made = bench(max_age=Duration(1_000_000))
    made.session.receive("in/x", b'{"t": 1}')
    made.session.receive("hum/x", b'{"h": 1}')
    await settle()
    begun = now()
    await until(lambda: age_ns(begun, now()) > 2_000_000)
    made.session.receive("in/x", b'{"t": 1}')
    await settle()
    assert [letter["message"] for letter in made.letters()] == [
        'the latest of "hum/{site}" that goes with this message has sent nothing yet',
        'the latest of "hum/{site}" that goes with this message is older than its max_age',
    ]
    assert len(made.session.acked) == 3


@on_loop
async def test_defaults_stand_in() -> None:
    made = bench(fields=(FieldSpec("h", 5.0),))
    made.session.receive("in/x", b'{"t": 1}')
    made.session.receive("hum/x", b"{}")
    made.session.receive("hum/x", b'{"h": 6}')
    made.session.receive("in/x", b'{"t": 1}')
    await settle()
    assert sums(made) == [6, 7]


@on_loop
async def test_acknowledged_when_it_is_on_disk_and_found_after_a_restart() -> None:
    keeper = SlowKeeper()
    made = bench(keeper)
    message = made.session.receive("hum/x", b'{"h": 10}')
    made.session.receive("hum/x", b"nonsense")
    await settle()
    assert made.session.acked == []
    keeper.sync()
    assert made.session.acked[0] == message.mid
    again = bench(SlowKeeper(), keeper.disk)
    again.session.receive("in/x", b'{"t": 1}')
    await settle()
    assert sums(again) == [11]
    other = bench(SlowKeeper(), keeper.disk, fields=("other",))
    other.session.receive("in/x", b'{"t": 1}')
    await settle()
    assert "sent nothing yet" in other.letters()[0]["message"]


@on_loop
async def test_a_reply_topic_that_a_joined_topic_reads_is_refused() -> None:
    made = bench()
    made.session.receive("in/x", b'{"t": 1}', response_topic="hum/x")
    await settle()
    assert "read by a binding" in made.letters()[0]["message"]
