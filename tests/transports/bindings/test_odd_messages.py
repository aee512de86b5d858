"""What a broker may deliver that is no new request: retained, expired, repeated. It moves no state."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from edged.transports.bindings.time_left import has_expired
from tests.fakes.clock import on_loop, until
from tests.fakes.session import settle
from tests.transports.bindings import test_joined, test_sequenced, test_windowed
from tests.transports.bindings.test_bindings import Bench, binding


class Kind(NamedTuple):
    """A kind of binding: its bench, a payload, and the sums of 1, 2 and 3, and of 1, 1, 2 and 3."""

    bench: Callable[[], Bench]
    payload: Callable[[float], bytes]
    sums: list[float]
    sums_again: list[float]


def joined() -> Bench:
    made = test_joined.bench(source="weather")
    made.session.receive("weather", b'{"h": 10}')
    return made


KINDS = {
    "usual": Kind(lambda: Bench(binding()), test_sequenced.number, [1, 2, 3], [1, 1, 2, 3]),
    "windowed": Kind(test_windowed.bench, test_windowed.row, [6], [6]),
    "sequenced": Kind(test_sequenced.bench, test_sequenced.number, [1, 3, 6], [1, 1, 3, 6]),
    "joined": Kind(joined, lambda t: b'{"t": %d}' % t, [11, 12, 13], [11, 11, 12, 13]),
}
ODD: dict[str, dict[str, Any]] = {
    "retained": {"retain": True},
    "retained, repeated and expired": {"retain": True, "dup": True, "expiry_s": 0},
    "expired": {"expiry_s": 0},
    "expired and repeated": {"expiry_s": 0, "dup": True},
    "expired on its way": {"expiry_s": 5, "arrived_ns": -6 * 10**9},
}


def odd(words: dict[str, Any]) -> dict[str, Any]:
    found = dict(words)
    if "arrived_ns" in found:
        found["arrived_ns"] += time.monotonic_ns()
    return found


def sums(made: Bench) -> list[float]:
    return [one["sum"] for one in made.session.documents("out/x")]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("kind", KINDS)
@on_loop
async def test_old_state_and_what_came_too_late_are_acknowledged_and_count_for_nothing(
    kind: str, name: str
) -> None:
    bench, payload, expected, _ = KINDS[kind]
    made = bench()
    mids = [made.session.receive("in/x", payload(1)).mid]
    mids.append(made.session.receive("in/x", payload(100), **odd(ODD[name])).mid)
    mids += [made.session.receive("in/x", payload(value)).mid for value in (2, 3)]
    await settle(60)
    assert sums(made) == expected
    assert made.session.acked[-4:] == mids
    is_retained = "retain" in ODD[name]
    assert made.bindings.stats()["retained"] == is_retained
    assert made.counters()["expired"] == (not is_retained)


@pytest.mark.parametrize("kind", KINDS)
@on_loop
async def test_what_is_repeated_counts_once_and_its_answer_says_so(kind: str) -> None:
    bench, payload, _, expected = KINDS[kind]
    made = bench()
    first = made.session.receive("in/x", payload(1))
    await settle()
    made.session.emit(first._replace(dup=True))
    for value in (2, 3):
        made.session.receive("in/x", payload(value))
    await settle(60)
    assert sums(made) == expected
    marked = [("edged-dup", "1") in one.properties for one in made.session.to("out/x")]
    assert marked == ([False, True, False, False] if len(expected) == 4 else [False])
    assert made.session.acked.count(first.mid) == 2


@pytest.mark.parametrize("name", ODD)
@on_loop
async def test_a_joined_topic_keeps_its_latest(name: str) -> None:
    made = joined()
    message = made.session.receive("weather", b'{"h": 500}', **odd(ODD[name]))
    made.session.receive("in/x", b'{"t": 1}')
    await settle()
    assert sums(made) == [11]
    assert message.mid in made.session.acked


@pytest.mark.parametrize("kind", KINDS)
@on_loop
async def test_the_same_bytes_under_the_same_identifier_are_a_new_request(kind: str) -> None:
    """A broker gives an identifier again when it was acknowledged; only DUP says that it repeats."""
    bench, payload, _, _ = KINDS[kind]
    made = bench()
    first = made.session.receive("in/x", payload(1))
    await settle()
    made.session.emit(first)
    made.session.receive("in/x", payload(1))
    await settle(60)
    expected = {"usual": [1, 1, 1], "windowed": [3], "sequenced": [1, 2, 3], "joined": [11] * 3}
    assert sums(made) == expected[kind]
    assert not any(("edged-dup", "1") in one.properties for one in made.session.to("out/x"))


@on_loop
async def test_what_expires_while_the_model_is_at_work_is_not_answered() -> None:
    made = Bench(binding(), hold=True)
    passed_ns = 5 * 10**9 - 10**7
    message = made.session.receive(
        "in/x", test_sequenced.number(1), expiry_s=5, arrived_ns=time.monotonic_ns() - passed_ns
    )
    await until(lambda: has_expired(message))
    made.door.release_all()
    await settle()
    assert sums(made) == []
    assert made.counters()["expired"] == 1
    assert made.session.acked == [message.mid]
