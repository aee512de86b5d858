"""What is wrong with rollouts as far as the configuration alone can tell."""

from __future__ import annotations

import pytest

from edged.config.check import check
from edged.config.convert import convert_config
from edged.config.load import read_document

HEAD = "trust: {require_signatures: false}\nmodels:\n  m:\n    bundle: x\n"
CANARY = "canary: {release: 4, trafficPercent: 10}"


def found(section: str, beside: str = "") -> list[str]:
    document, _ = read_document("x", f"{HEAD}{beside}    rollout: {{{section}}}\n".encode())
    draft = convert_config(document)
    return [f"{p.path}: {p.message}" for p in [*draft.problems, *check(draft)]]


@pytest.mark.parametrize(
    "section",
    [
        f"stable: 3, {CANARY}",
        f"stable: 3, {CANARY}, shadow: {{release: 4, percent: 50, cost: 5}}",
        "stable: 3, shadow: {release: 4}",
        "stable: 3, ab: {weights: {3: 70, 4: 30}, key: user}",
        f"stable: 3, {CANARY}, guard: {{window: 1h, minimum: 10, latency: 1.5, drift: 2.5}}",
    ],
)
def test_good_ones(section: str):
    assert not found(section)


PATH = "models.m.rollout"


@pytest.mark.parametrize(
    ("section", "beside", "wanted"),
    [
        ("stable: 3", "", f"{PATH}: tries nothing"),
        (CANARY, "", f'{PATH}: needs "stable"'),
        (
            f"stable: 3, {CANARY}, ab: {{weights: {{3: 1, 4: 1}}}}", "",
            f"{PATH}.ab: and canary are two ways",
        ),
        ("stable: 4, " + CANARY, "", f"{PATH}.canary.release: is the stable release itself"),
        ("stable: 4, shadow: {release: 4}", "", f"{PATH}.shadow.release: is the stable"),
        ("stable: 3, ab: {weights: {3: 1}}", "", f"{PATH}.ab.weights: expected 2 to 8 releases"),
        ("stable: 3, ab: {weights: {3: 0, 4: 0}}", "", f"{PATH}.ab.weights: gives every release"),
        ("stable: 3, ab: {weights: {three: 1, 4: 1}}", "", f"{PATH}.ab.weights.three: found"),
        (f"stable: 3, {CANARY}, guard: {{window: 1ms}}", "", f"{PATH}.guard.window: is outside"),
        (
            "stable: 3, canary: {release: 4, trafficPercent: 101}", "",
            f"{PATH}.canary.trafficPercent: found",
        ),
        (
            "stable: 3, canary: {release: 4, traffic_percent: 1}", "",
            f'{PATH}.canary: needs "trafficPercent"',
        ),
        (f"stable: 3, {CANARY}", "    serve: 3\n", "models.m.serve: and rollout.stable both say"),
        (
            f"stable: 3, {CANARY}", "    sequence: {state: {h: hN}}\n",
            f"{PATH}: cannot be with sequence",
        ),
        (
            "stable: 3, shadow: {release: 4}", "    generation: {}\n",
            f"{PATH}.shadow: cannot compare texts",
        ),
    ],
)  # fmt: skip
def test_bad_ones(section: str, beside: str, wanted: str):
    lines = found(section, beside)
    assert any(line.startswith(wanted) for line in lines), lines
