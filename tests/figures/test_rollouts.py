"""Figures of rollouts: those of the status page, one series a release."""

from __future__ import annotations

from edged.figures.rollouts import ROLLOUT_FIGURES, add_rollouts

ONE = {
    "model": "m",
    "phase": "rolled back",
    "elapsed_s": 12.5,
    "sides": {"3": {"answers": 9, "errors": 1, "p99_ms": 2.0}},
    "compared": 5,
    "differing": 2,
    "failed_again": 1,
    "dropped": 4,
    "missed": 3,
    "drift": {"in.x": 0.5},
    "psi": {"in.x": 0.25},
    "nan": {"in.x": 1.5},
}


def test_what_is_shown():
    found: dict[tuple[str, ...], object] = {}

    def add(name: str, value: object, /, *labels: str) -> None:
        found[(name, *labels)] = value

    add_rollouts(add, [ONE])
    assert found["edged_rollout_phase", "m", "rolled back"] == 1
    assert found["edged_rollout_phase", "m", "running"] == 0
    assert found["edged_rollout_slow_seconds", "m", "3"] == 0.002
    assert found["edged_rollout_answers", "m", "3"] == 9
    assert found["edged_rollout_shadowed", "m", "differing"] == 2
    assert found["edged_rollout_shadowed", "m", "failed"] == 1
    assert found["edged_rollout_psi", "m", "in.x"] == 0.25
    assert found["edged_rollout_nan", "m", "in.x"] == 1.5
    assert {name for name, *_ in found} == {figure.name for figure in ROLLOUT_FIGURES}
