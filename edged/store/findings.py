"""All that this device found out about releases, in one place: what was measured, and how it chose.

<state>/measured      <state>/footprints      <state>/contests
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from edged.store.contests import Contests
from edged.store.footprints import Footprints
from edged.store.measured import Measurements


class Findings(NamedTuple):
    """The notes of one state directory; see ``notes.py``."""

    measured: Measurements
    footprints: Footprints
    contests: Contests

    @classmethod
    def of(cls, state_dir: Path) -> Findings:
        """Those that are kept there; nothing is read or made yet."""
        return cls(
            Measurements(state_dir / "measured"),
            Footprints(state_dir / "footprints"),
            Contests(state_dir / "contests"),
        )

    def forget(self, known: Collection[str]) -> None:
        """Let go of releases that are in the store no longer.

        Args:
            known: digests of those that are.
        """
        for notes in self:
            notes.forget(known)
