"""How reloads ended, counted for the figures."""

from __future__ import annotations

from dataclasses import dataclass, field

from edged.generation.reload import Report


@dataclass(slots=True)
class ReloadTally:
    """How reloads ended; told by the daemon after each."""

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("applied", "unchanged", "refused", "postponed"), 0)
    )
    _last: Report | None = None
    _generation: int = 0

    def start(self, report: Report, generation: int) -> None:
        """What the boot came to; counts nothing."""
        self._last, self._generation = report, generation

    def note(self, report: Report, generation: int) -> None:
        """One reload has ended."""
        if report is self._last:
            outcome = "postponed"  # a file was being written; its close asks again
        elif not report.applied:
            outcome = "refused"
        else:
            outcome = "applied" if generation != self._generation else "unchanged"
        self.counts[outcome] += 1
        self._last, self._generation = report, generation
