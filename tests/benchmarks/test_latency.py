"""The plot of latency over load, and the rounds that it is made of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import latency
from benchmarks.models import Model
from benchmarks.stand import Stand
from tests.benchmarks.test_overload import COMPILER, compiled


def report(p50: float, p99: float, answered: int = 9) -> dict[str, float]:
    return {"p50_us": p50, "p99_us": p99, "answered": answered}


def test_the_middle_of_what_was_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(latency, "LOADS", (0.5, 1.5))
    rounds = [
        {"0.5": [report(1, 10), report(2, 20)], "1.5": [report(5, 50), None]},
        {"0.5": [report(3, 30), report(4, 40)], "1.5": [report(7, 70), report(0, 0, 0)]},
    ]
    assert latency._middle(rounds) == {
        "raw": {"p50_us": [2, 6], "p99_us": [20, 60]},
        "edged": {"p50_us": [3, None], "p99_us": [30, None]},
    }


def test_the_picture_that_is_kept_is_that_of_the_figures_that_are_kept():
    document = json.loads((latency.HERE / "latency.json").read_text())
    assert latency.picture(document) == (latency.HERE / "latency.svg").read_text()
    for found in document["models"].values():
        for side in latency.SIDES:
            lengths = {len(line) for line in found["points"][side].values()}
            assert lengths == {len(document["loads"])}


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C compiler here")
def test_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(latency, "ROUNDS", 1)
    monkeypatch.setattr(latency, "LOADS", (0.1,))
    stand = Stand(tmp_path, compiled(tmp_path), 0.4)
    stack = stand.stack("stack", 1)
    models: dict[str, Model] = {"tiny": stack, "cnn": stack}
    monkeypatch.setattr(Stand, "tiny", lambda _: models["tiny"])
    monkeypatch.setattr(Stand, "cnn", lambda _: models["cnn"])
    found = latency.measure(stand, 2)
    (one,) = found.values()
    assert one["threads"] == 2
    for side in latency.SIDES:
        for quantile in latency.QUANTILES:
            (us,) = one["points"][side][quantile]
            assert us is not None
            assert us > 0
    document = {"loads": latency.LOADS, "models": found}
    assert "stack, 2 threads" in latency.picture(document)
