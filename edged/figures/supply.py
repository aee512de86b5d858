"""What is measured of how bundles and configuration come here: store, inbox, sources, documents.

A part of ``catalogue.py``; reads the status page's words and counts nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edged.figures.rollouts import Add
from edged.telemetry.exposition import Figure, Kind

_C, _G = Kind.COUNTER, Kind.GAUGE

SUPPLY_FIGURES: tuple[Figure, ...] = (
    Figure("edged_store_releases", _G, "Releases that the store holds."),
    Figure("edged_store_bytes", _G, "Bytes that they take."),
    Figure("edged_store_max_bytes", _G, "Bytes that they may take (store.max_bytes)."),
    Figure("edged_store_collected", _C, "Releases that left it, because nothing needs them."),
    Figure("edged_inbox_files", _C, "Files of the inbox: installed, refused.", ("outcome",)),
    Figure("edged_inbox_waiting", _G, "Files that wait in it."),
    Figure(
        "edged_pulls", _C, "Questions to sources: installed, current, failed.", ("model", "outcome")
    ),
    Figure("edged_pull_bytes", _C, "Bytes of bundles that came from them.", ("model",)),
    Figure("edged_pull_success_age_seconds", _G, "Since one answered last.", ("model",)),
    Figure("edged_desired_version", _G, "Document over MQTT that is in effect; 0 for none."),
    Figure("edged_desired_documents", _C, "Such messages: taken, refused, repeated.", ("outcome",)),
)


def add_supply(add: Add, supply: Mapping[str, Any]) -> None:
    """Fill in the figures.

    Args:
        add: takes a name, a value and the labels.
        supply: what the status page shows of it; what is not there is left out.
    """
    if store := supply.get("store"):
        for name in ("releases", "bytes", "max_bytes", "collected"):
            add(f"edged_store_{name}", store[name])
    if inbox := supply.get("inbox"):
        for outcome in ("installed", "refused"):
            add("edged_inbox_files", inbox[outcome], outcome)
        add("edged_inbox_waiting", inbox["waiting"])
    for one in supply.get("pulls") or ():
        for outcome, count in one["ended"].items():
            add("edged_pulls", count, one["model"], outcome)
        add("edged_pull_bytes", one["bytes"], one["model"])
        add("edged_pull_success_age_seconds", one["good_ago_s"], one["model"])
    if documents := supply.get("documents"):
        add("edged_desired_version", documents["version"])
        for outcome in ("taken", "refused", "repeated"):
            add("edged_desired_documents", documents[outcome], outcome)
