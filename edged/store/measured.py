"""What runs of a release take on this device, kept so that a load need not measure it again.

    measured/<digest>.json          {"<what it was measured with>": [[rows, nanoseconds], ...]}

Decides only what a file may hold; whether a figure is still believed is ``loading.py``'s decision.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edged.store.notes import Notes

Runs = tuple[tuple[int, int], ...]
"""Pairs of rows and nanoseconds of a run, rows ascending from 1."""

Number = Annotated[int, Meta(ge=1, lt=2**53)]
"""Of rows or nanoseconds, as a file may hold it."""
_FILE = msgspec.json.Decoder(
    dict[str, Annotated[tuple[tuple[Number, Number], ...], Meta(min_length=1, max_length=32)]]
)


class Measurements(Notes[Runs]):
    """The figures of one state directory; see ``Notes``."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, _FILE, (), is_ascending)


def is_ascending(runs: Runs) -> bool:
    """Whether rows begin with one and grow."""
    rows = [one for one, _ in runs]
    return rows[0] == 1 and all(first < second for first, second in itertools.pairwise(rows))
