"""What is measured of rollouts: where each is, and what its releases did.

A part of ``catalogue.py``; reads the status page's words and counts nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from edged.rollout.judge import Phase
from edged.telemetry.exposition import Figure, Kind, Value

_C, _F, _G = Kind.COUNTER, Kind.FLAG, Kind.GAUGE
_RELEASE = ("model", "release")
_OUTCOMES = {"compared": "compared", "differing": "differing", "failed_again": "failed",
             "dropped": "dropped"}  # fmt: skip

ROLLOUT_FIGURES: tuple[Figure, ...] = (
    Figure("edged_rollout_phase", _F, "1 for the phase a rollout is in.", ("model", "phase")),
    Figure("edged_rollout_seconds", _G, "Time that it has been under way.", ("model",)),
    Figure("edged_rollout_answers", _C, "Answers by the release that gave them.", _RELEASE),
    Figure("edged_rollout_errors", _C, "Answers that were its own error.", _RELEASE),
    Figure("edged_rollout_slow_seconds", _G, "99th percentile of its answers.", _RELEASE),
    Figure(
        "edged_rollout_shadowed", _C, "Requests that were to be asked again.", ("model", "outcome")
    ),
    Figure("edged_rollout_missed", _C, "Answered in the place of a side that cannot.", ("model",)),
    Figure(
        "edged_rollout_drift",
        _G,
        "Standard deviations a tensor's mean has moved.",
        ("model", "tensor"),
    ),
    Figure("edged_rollout_psi", _G, "Its population stability index.", ("model", "tensor")),
    Figure("edged_rollout_nan", _G, "Percent of it that is NaN or infinite.", ("model", "tensor")),
)


class Add(Protocol):
    """Takes a figure."""

    def __call__(self, name: str, value: Value | None, /, *labels: str) -> None:
        """Note a value."""
        ...


def add_rollouts(add: Add, rollouts: Iterable[Mapping[str, Any]]) -> None:
    """Fill in the figures.

    Args:
        add: takes a name, a value and the labels.
        rollouts: what the status page shows of them.
    """
    for one in rollouts:
        model = one["model"]
        for phase in Phase:
            add("edged_rollout_phase", int(one["phase"] == phase.value), model, phase.value)
        add("edged_rollout_seconds", one["elapsed_s"], model)
        for number, side in one["sides"].items():
            add("edged_rollout_answers", side["answers"], model, number)
            add("edged_rollout_errors", side["errors"], model, number)
            add("edged_rollout_slow_seconds", side["p99_ms"] / 1000, model, number)
        for name, outcome in _OUTCOMES.items():
            add("edged_rollout_shadowed", one[name], model, outcome)
        add("edged_rollout_missed", one["missed"], model)
        for words in ("drift", "psi", "nan"):
            for tensor, value in one[words].items():
                add(f"edged_rollout_{words}", value, model, tensor)
