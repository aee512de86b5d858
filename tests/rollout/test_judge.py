"""Verdicts from figures alone: each limit by itself, too little to judge by, and the table."""

from __future__ import annotations

import random

import pytest

from edged.config.rollout import GuardConfig
from edged.rollout.drift import Reference
from edged.rollout.judge import LOOKS, NEXT, OVER, Phase, Sides, Verdict, judge, missing
from edged.rollout.tally import Moments, Tally
from edged.specs import Duration

SECOND = 10**9
SIDES = Sides(stable=1, canary=2)
GUARD = GuardConfig(window=Duration(60 * SECOND), minimum=100)
REFERENCES = {"out.y": Reference(0.0, 1.0)}


def figures(
    stable: tuple[int, int] = (1000, 0),
    canary: tuple[int, int] = (500, 0),
    times_ms: tuple[float, float] = (10.0, 10.0),
    compared: tuple[int, int, int] = (500, 0, 0),
    elapsed_s: float = 61,
    moved: float = 0.0,
) -> Tally:
    """Answers and errors of both, their 99th percentiles, comparisons, and the time."""
    tally = Tally(elapsed_ns=int(elapsed_s * SECOND))
    for number, (answers, errors), ms in zip(SIDES, (stable, canary), times_ms, strict=True):
        side = tally.side(number)
        for _ in range(answers - errors):
            side.note(None, int(ms * 1e6))
        side.answers, side.errors = answers, errors
    tally.compared, tally.differing, tally.failed_again = compared
    tally.moments["out.y"] = Moments(count=200, total=200 * moved)
    return tally


def slow_ones(answers: int, slow: int) -> Tally:
    """A canary whose 99th percentile is beyond the limit by so many of its answers."""
    tally = figures(canary=(answers - slow, 0))
    for _ in range(slow):
        tally.side(2).note(None, 90_000_000)
    return tally


def verdict(tally: Tally, guard: GuardConfig = GUARD, **more: object) -> Verdict | None:
    given = {"is_shadowed": True, "references": REFERENCES} | more
    return judge(tally, SIDES, guard, given.pop("references"), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answers", "slow", "phase"),
    [(500, 5, Phase.PROMOTED), (500, 6, None), (500, 11, None), (500, 12, Phase.ROLLED_BACK),
     (5000, 80, Phase.ROLLED_BACK), (100, 4, Phase.ROLLED_BACK), (100, 1, Phase.PROMOTED)],
)  # fmt: skip
def test_slow_by_more_than_chance(answers: int, slow: int, phase: Phase | None):
    found = verdict(slow_ones(answers, slow))
    assert (found and found.phase) is phase


@pytest.mark.parametrize("answers", [1, 13, 99])
def test_a_stable_one_that_only_fails_lets_all_be_judged(answers: int):
    tally = figures(stable=(answers, answers), canary=(500, 500))
    assert verdict(tally) is None
    assert missing(tally, SIDES, GUARD, {}, is_shadowed=False)


PLAIN = GuardConfig()
DRIFT = GuardConfig(window=Duration(60 * SECOND), minimum=100, drift=2.0)

BAD = {
    "errors": (figures(canary=(500, 6)), GUARD, "errors: 6 of 500 answers of release 2"),
    "errors beyond those of the stable": (
        figures(stable=(1000, 50), canary=(500, 49)), GUARD, "errors: 49 of 500",
    ),
    "errors while the stable one has hardly answered": (
        figures(stable=(10, 1), canary=(500, 500)), GUARD, "errors: 500 of 500",
    ),
    "errors that no further answer mends": (
        figures(stable=(10, 0), canary=(5, 2), elapsed_s=0.1), GUARD, "errors: 2 of 5",
    ),
    "latency": (figures(times_ms=(10, 25)), GUARD, "latency: the 99th percentile of release 2"),
    "disagreement": (figures(compared=(500, 6, 0)), GUARD, "disagreement: 6 of 500"),
    "a shadow that fails disagrees": (
        figures(compared=(500, 0, 6)), GUARD, "disagreement: 6 of 506",
    ),
    "drift": (figures(moved=2.5), DRIFT, "drift: the mean of out.y is 2.50 standard"),
    "at once, not at the end of the window": (
        figures(times_ms=(10, 25), elapsed_s=1), GUARD, "latency",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_rolled_back(name: str):
    tally, guard, wanted = BAD[name]
    found = verdict(tally, guard)
    assert found is not None
    assert found.phase is Phase.ROLLED_BACK
    assert found.reason.startswith(wanted)


GOING_ON = {
    "the window is not over": figures(elapsed_s=59),
    "too few answers of the canary": figures(canary=(99, 0)),
    "too few answers of the stable": figures(stable=(99, 0)),
    "too few comparisons": figures(compared=(99, 0, 0)),
    "a few slow ones, as chance has it": slow_ones(500, 10),
    "slow, but too few to say so": figures(canary=(99, 0), times_ms=(10, 90)),
    "differing, but too few to say so": figures(compared=(99, 99, 0)),
    "fails more than it may, and it may be chance": figures(stable=(1000, 50), canary=(500, 40)),
    "fails, and the stable one does too": figures(stable=(50, 9), canary=(50, 9)),
}


@pytest.mark.parametrize("name", GOING_ON)
def test_goes_on(name: str):
    assert verdict(GOING_ON[name]) is None


GOOD = {
    "nothing is wrong": (figures(), GUARD),
    "a few errors": (figures(canary=(500, 5)), GUARD),
    "as many errors as allowed beyond those of the stable": (
        figures(stable=(1000, 50), canary=(500, 30)),
        GUARD,
    ),
    "as many errors as the stable": (figures(stable=(1000, 200), canary=(500, 100)), GUARD),
    "a little slower": (figures(times_ms=(10, 18)), GUARD),
    "three times nothing": (figures(times_ms=(0.1, 0.4)), GUARD),
    "a few differ": (figures(compared=(500, 5, 0)), GUARD),
    "drift within the limit": (figures(moved=1.5), DRIFT),
    "drift that nobody asked about": (figures(moved=9), GUARD),
}


@pytest.mark.parametrize("name", GOOD)
def test_promoted(name: str):
    tally, guard = GOOD[name]
    found = verdict(tally, guard)
    assert found is not None, missing(tally, SIDES, guard, REFERENCES, is_shadowed=True)
    assert found.phase is Phase.PROMOTED
    assert "500 answers" in found.reason


def test_a_good_one_waits_where_the_operator_wants_to_say_so():
    waiting = GuardConfig(window=Duration(SECOND), minimum=100, promote=False)
    found = verdict(figures(), waiting)
    assert found is not None
    assert found.phase is Phase.PASSED


def test_without_a_shadow_nothing_is_compared():
    tally = figures(compared=(500, 400, 0))
    found = verdict(tally, is_shadowed=False)
    assert found is not None
    assert found.phase is Phase.PROMOTED


def test_one_that_cannot_serve_at_all():
    found = verdict(figures(elapsed_s=0), hopeless="it died 5 times")
    assert found == Verdict(Phase.ROLLED_BACK, "release 2 cannot serve: it died 5 times")


def test_what_is_missing_is_named():
    tally = figures(canary=(7, 0), compared=(3, 0, 0))
    assert missing(tally, SIDES, GUARD, {}, is_shadowed=True) == (
        "7 of 100 answers of release 2, 3 of 100 comparisons"
    )


def test_nothing_leads_out_of_an_end():
    assert set(NEXT) == set(Phase)
    assert all(not NEXT[phase] for phase in OVER)
    assert all(phase in NEXT[Phase.RUNNING] for phase in OVER)


@pytest.mark.parametrize(
    ("strange", "limit", "is_breach"),
    [(1, 1.0, False), (10, 1.0, False), (11, 1.0, True), (1, 0.0, True), (990, 100.0, False)],
)
def test_what_is_no_number(strange: int, limit: float, is_breach: bool):
    """Its mean and spread are as they were; the percentage alone tells."""
    guard = GuardConfig(drift=2.0, minimum=100, nan=limit)
    tally = Tally(moments={"out.y": Moments(count=1000 - strange, strange=strange)})
    found = judge(tally, Sides(1, 2), guard, REFERENCES, is_shadowed=False)
    assert (found is not None) == is_breach
    if found is not None:
        assert found.phase is Phase.ROLLED_BACK
        assert found.reason.startswith(f"drift: {strange} of 1000 elements of out.y are NaN or")


def test_another_spread_is_a_breach_once_enough_requests_were_looked_at():
    guard = GuardConfig(psi=0.25, minimum=100)
    known = {"in.x": Reference(0.0, 1.0, (0.0,), (0.5, 0.5))}
    tally = Tally()
    sides = Sides(1, 2)
    seen = tally.moments["in.x"] = Moments(count=1000, looks=LOOKS - 1, cells=[950, 50])
    assert judge(tally, sides, guard, known, is_shadowed=False) is None
    assert f"{LOOKS - 1} of {LOOKS} requests" in missing(
        tally, sides, guard, known, is_shadowed=False
    )
    seen.looks = LOOKS
    found = judge(tally, sides, guard, known, is_shadowed=False)
    assert found is not None
    assert found.phase is Phase.ROLLED_BACK
    assert found.reason.startswith("drift: in.x is spread otherwise")
    # Half and half as it was, or nobody asks for it.
    seen.cells = [480, 520]
    assert judge(tally, sides, guard, known, is_shadowed=False) is None
    seen.cells = [950, 50]
    bare = GuardConfig(drift=3.0, minimum=100)
    assert judge(tally, sides, bare, known, is_shadowed=False) is None


def test_errors_that_may_be_chance_are_waited_for():
    tally = figures(stable=(1000, 50), canary=(500, 40))
    words = missing(tally, SIDES, GUARD, {}, is_shadowed=False)
    assert words == "whether release 2 fails more, or did by chance"


def test_a_canary_as_good_as_the_stable_is_kept():
    """Looked at again and again: of forty that fail as often as the stable one, not one in ten."""
    draw, gone = random.Random(7), 0
    for _ in range(40):
        tally, found = Tally(), None
        stable, tried = tally.side(1), tally.side(2)
        while tried.answers < 3000 and found is None:
            for side, count in ((stable, 70), (tried, 30)):
                side.answers += count
                side.errors += sum(draw.random() < 0.05 for _ in range(count))
            found = judge(tally, SIDES, PLAIN, {}, is_shadowed=False)
        gone += found is not None and found.phase is Phase.ROLLED_BACK
    assert gone < 4
