"""Figures of what comes here: those of the status page."""

from __future__ import annotations

from typing import Any

from edged.figures.supply import SUPPLY_FIGURES, add_supply

SUPPLY: dict[str, Any] = {
    "store": {
        "releases": 3, "bytes": 300, "max_bytes": 1000, "collected": 2, "collected_bytes": 9,
    },
    "inbox": {"folder": "/x", "installed": 4, "refused": 1, "waiting": 2, "last": ""},
    "pulls": [
        {
            "model": "m", "ended": {"installed": 1, "current": 5, "failed": 2}, "bytes": 77,
            "good_ago_s": 1.5,
        },
        {
            "model": "n", "ended": {"installed": 0, "current": 0, "failed": 1}, "bytes": 0,
            "good_ago_s": None,
        },
    ],
    "documents": {"version": 7, "taken": 1, "refused": 2, "repeated": 3},
}  # fmt: skip


def shown(supply: dict[str, Any]) -> dict[tuple[str, ...], object]:
    found: dict[tuple[str, ...], object] = {}

    def add(name: str, value: object, /, *labels: str) -> None:
        if value is not None:
            found[(name, *labels)] = value

    add_supply(add, supply)
    return found


def test_what_is_shown():
    found = shown(SUPPLY)
    assert (found["edged_store_bytes",], found["edged_store_max_bytes",]) == (300, 1000)
    assert found["edged_inbox_files", "refused"] == 1
    assert found["edged_pulls", "m", "failed"] == 2
    assert found["edged_pull_success_age_seconds", "m"] == 1.5
    assert found["edged_desired_documents", "refused"] == 2
    assert {name for name, *_ in found} == {figure.name for figure in SUPPLY_FIGURES}


def test_what_is_not_there_is_not_zero():
    assert shown({}) == {}
    assert ("edged_pull_success_age_seconds", "n") not in shown(SUPPLY)
    store = {**SUPPLY["store"], "max_bytes": None}
    assert ("edged_store_max_bytes",) not in shown({"store": store, "inbox": None, "pulls": []})
