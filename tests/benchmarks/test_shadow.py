"""The row of what a rollout costs in its short form: that it measures, not what."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import shadow
from benchmarks.stand import Stand


@pytest.mark.slow
def test_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shadow, "WINDOW_S", 0.02)
    rows = shadow.shadow(Stand(tmp_path, tmp_path / "unused", 0.1))
    assert [(row.name, row.unit, row.bar) for row in rows] == shadow.BARS
    assert all(row.value for row in rows)
    compared = {name: one["compared"] for name, one in rows[0].raw["rollouts"].items()}
    assert compared.keys() == {f"{k}-{m}" for k in ("shadow", "canary") for m in ("tiny", "small")}
    assert all((count > 0) is name.startswith("shadow") for name, count in compared.items())
