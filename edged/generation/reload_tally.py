"""How reloads ended: the last one in words, all of them counted for the figures."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Report:
    """How the last try to change the configuration went.

    Args:
        applied: whether the files are what is in effect.
        at: wall-clock time, seconds since 1970.
        problems: why not; one line each, with file and line.
        number: of the look at the files that it came from.
    """

    applied: bool
    at: float
    problems: tuple[str, ...] = ()
    number: int = 0


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
