"""What is told of an engine on its way."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edged.engines.build import Build, FoundryRules, Wanted
from edged.engines.policy import NEVER_NS, Phase, Weather

RULES = FoundryRules(is_automatic=True, memory_bytes=0)
MANUAL = FoundryRules(is_automatic=False, memory_bytes=0)
TASK = SimpleNamespace(model="m", wish=SimpleNamespace(entry=SimpleNamespace(precision="int8")))
S = 1_000_000_000


def build(phase: Phase, **more) -> Build:
    return Build(Wanted(TASK, 3, "d"), 0, phase, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "rules", "weather", "waits"),
    [
        (build(Phase.WANTED), MANUAL, Weather(trouble="hot"), "edged build m"),
        (build(Phase.WANTED), RULES, Weather(trouble="hot"), "hot"),
        (build(Phase.WANTED), RULES, Weather(), "its turn"),
        (build(Phase.PAUSED), RULES, Weather(trouble="hot"), "hot"),
        (build(Phase.BUILDING), RULES, Weather(trouble="hot"), ""),
    ],
)
def test_what_it_waits_for(one, rules, weather, waits):
    told = one.told(rules, weather, 0)
    assert told["waits_for"] == waits
    assert (told["model"], told["release"], told["precision"]) == ("m", 3, "int8")


def test_when_it_is_tried_again():
    assert build(Phase.FAILED, retry_at_ns=9 * S).told(RULES, Weather(), 4 * S)["retry_in_s"] == 5.0
    assert build(Phase.FAILED, retry_at_ns=NEVER_NS).told(RULES, Weather(), 0)["retry_in_s"] is None
    assert build(Phase.GIVEN_UP).told(RULES, Weather(), 0)["retry_in_s"] is None


def test_only_the_time_at_work_counts():
    one = build(Phase.BUILDING, worked_ns=2 * S, resumed_at_ns=10 * S)
    assert one.worked(13 * S) == 5 * S
    one.phase = Phase.PAUSED
    assert one.worked(13 * S) == 2 * S
    assert build(Phase.BUILDING).worked(13 * S) == 0, "it is not started yet"


@pytest.mark.parametrize(
    ("phase", "auto", "manual"),
    [
        (Phase.WANTED, True, False),
        (Phase.FAILED, True, False),
        (Phase.BUILDING, True, True),
        (Phase.PAUSED, True, True),
        (Phase.SERVING, False, False),
        (Phase.GIVEN_UP, False, False),
    ],
)
def test_what_the_policy_looks_at(phase, auto, manual):
    assert build(phase).may_change(RULES) == auto
    assert build(phase).may_change(MANUAL) == manual
    never = build(phase, retry_at_ns=NEVER_NS)
    assert never.may_change(RULES) == (phase in (Phase.BUILDING, Phase.PAUSED))
