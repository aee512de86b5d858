"""``edged rollout`` on a terminal; what it asks is tested with the daemon (test_rollouts.py there)."""

from __future__ import annotations

from edged.commands.rolling import in_short, render

SIDES = {
    "1": {"answers": 900, "errors": 0, "p99_ms": 2.0},
    "2": {"answers": 100, "errors": 3, "p99_ms": 2.5},
}
OLD = {
    "stable": 1, "canary": 2, "phase": "rolled back", "reason": "errors: 3 of 100", "sides": SIDES,
    "ended": 1_000_000_000.0,
    "compared": 0, "differing": 0, "failed_again": 0, "dropped": 0,
}  # fmt: skip
ONE = {
    **OLD, "model": "pumps", "phase": "running", "reason": "", "weights": {"2": 10, "1": 90},
    "key": "device", "elapsed_s": 12.4, "window_s": 600.0, "waits_for": "100 of 500 answers",
    "compared": 40, "differing": 1, "dropped": 9, "before": [OLD],
    "drift": {"in.x": 0.125, "out.y": None}, "psi": {"in.x": 0.5, "out.y": None},
    "nan": {"in.x": 0.0, "out.y": 2.5},
}  # fmt: skip


def test_nothing():
    assert render([]) == "no rollout is configured (models.NAME.rollout)"


def test_one_under_way_and_the_one_before():
    assert render([ONE]).splitlines() == [
        "pumps: running (release 2: 10, release 1: 90, by device)",
        "  12 s of a window of 600 s",
        "  not enough yet: 100 of 500 answers",
        "  release 1: 900 answers, 0 errors, 99 % within 2.000 ms",
        "  release 2: 100 answers, 3 errors, 99 % within 2.500 ms",
        "  compared: 40, differing: 1, failed: 0, not asked again: 9",
        "  in.x: mean moved by 0.12 deviations, psi 0.50",
        "  out.y: no finite number, psi 0.00, 2.50 % NaN or infinite",
        "  before: release 2 over 1: rolled back 2001-09-09 01:46:40 UTC",
        "    errors: 3 of 100",
        "    release 1: 900 answers, 0 errors, 99 % within 2.000 ms",
        "    release 2: 100 answers, 3 errors, 99 % within 2.500 ms",
    ]


def test_one_before_without_a_canary_and_without_an_end():
    """It was replaced under an edged that did not note when."""
    old = {**OLD, "canary": 0, "phase": "replaced", "reason": "", "sides": {}, "ended": 0.0}
    assert render([{**ONE, "before": [old]}]).endswith("\n  before: release 1 alone: replaced")


def test_one_that_is_over_shares_nothing():
    over = {**ONE, "phase": "promoted", "reason": "good", "weights": {}, "before": []}
    assert render([over]).splitlines()[:3] == [
        "pumps: promoted",
        "  good",
        "  when there is time, write it: serve: 2, in place of rollout",
    ]


def test_in_short_for_the_status():
    assert list(in_short([ONE])) == [
        (
            "rollout of pumps: running; release 2 gets 10 %, release 1 gets 90 %, by device; "
            "588 s of its window are left; not enough yet: 100 of 500 answers"
        ),
        "  release 1: 900 answers, 0 errors, 99 % within 2.000 ms",
        "  release 2: 100 answers, 3 errors, 99 % within 2.500 ms",
        "  compared: 40, differing: 1, failed: 0, not asked again: 9",
    ]


def test_in_short_without_a_canary_and_with_a_shadow():
    none = {**ONE, "canary": 0, "key": "", "sides": {}, "compared": 0, "waits_for": ""}
    assert list(in_short([none])) == [
        "rollout of pumps: running; release 2 gets 10 %, release 1 gets 90 %"
    ]
    shadow = {**none, "canary": 2, "weights": {"1": 100}, "shadow": 2, "elapsed_s": 700.0}
    assert list(in_short([shadow])) == [
        "rollout of pumps: running; release 2 is asked the same again; 0 s of its window are left"
    ]


def test_in_short_of_one_that_is_over():
    assert list(in_short([{**ONE, "phase": "rolled back", "reason": "errors: 3 of 100"}])) == [
        (
            "rollout of pumps: rolled back (errors: 3 of 100); when there is time, write it: "
            "serve: 1, in place of rollout"
        )
    ]
    assert list(in_short([{**ONE, "phase": "promoted", "reason": "by an operator"}])) == [
        (
            "rollout of pumps: promoted (by an operator); when there is time, write it: serve: 2, "
            "in place of rollout"
        )
    ]


def test_in_short_of_one_that_waits_for_an_operator():
    (line, *_) = in_short([{**ONE, "phase": "passed", "reason": "good"}])
    assert line.startswith(
        "rollout of pumps: passed (good); waits for you: edged rollout promote pumps, or abort; "
    )


def test_of_no_answers_nothing_is_said_of_their_time():
    sides = {"2": {"answers": 0, "errors": 0, "p99_ms": 0.0}}
    assert "  release 2: 0 answers, 0 errors" in list(in_short([{**ONE, "sides": sides}]))
