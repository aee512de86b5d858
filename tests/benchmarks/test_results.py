"""The form of a result: what holds, what does not, and what says nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.results import NOT_MEASURED, holds, measured, merge, not_measured, table, write


@pytest.mark.parametrize(
    ("value", "bar", "answer"),
    [
        (2.0, "<= 2.0", True),
        (2.01, "<= 2.0", False),
        (0.5, ">= 0.5", True),
        (0.49, ">= 0.5", False),
        (0, "== 0", True),
        (1, "== 0", False),
        (7, "", None),
    ],
)
def test_holds(value: float, bar: str, answer: bool | None):
    assert holds(value, bar) is answer


@pytest.mark.parametrize("bar", ["< 2", "2", "<= x", "<=2"])
def test_a_bar_that_nobody_can_read(bar: str):
    with pytest.raises(ValueError, match="expected"):
        holds(1, bar)


def test_what_was_not_measured_holds_nothing():
    row = not_measured("isolation", "us", "<= 60", "not built")
    assert (row.value, row.holds, row.raw) == (None, None, {"why": "not built"})
    text = table([row, measured("start", 0.41239, "s", "<= 0.7", {})])
    assert NOT_MEASURED in text
    assert "not built" in text
    assert "0.4124" in text
    assert "NO" not in text.replace(NOT_MEASURED, "")


def test_a_bar_that_does_not_hold_is_seen():
    assert "NO" in table([measured("start", 0.9, "s", "<= 0.7", {})])


def test_the_file_is_a_list_of_the_six_fields(tmp_path: Path):
    path = tmp_path / "results.json"
    write(path, [measured("a", 1.23456789, "x", ">= 1", {"rounds": [1, 2]})])
    assert json.loads(path.read_text()) == [
        {"name": "a", "value": 1.23457, "unit": "x", "bar": ">= 1", "holds": True,
         "raw": {"rounds": [1, 2]}},
    ]  # fmt: skip


def test_rows_measured_again_take_the_place_of_the_old(tmp_path: Path):
    path = tmp_path / "results.json"
    old = [measured("a", 1, "x", "", {}), measured("b", 2, "x", "", {})]
    write(path, old)
    write(path, [measured("b", 3, "x", "", {}), measured("c", 4, "x", "", {})], keep=True)
    assert [(r["name"], r["value"]) for r in json.loads(path.read_text())] == [
        ("a", 1), ("b", 3), ("c", 4),
    ]  # fmt: skip
    write(path, old)
    assert len(json.loads(path.read_text())) == 2
    assert merge([], []) == []
