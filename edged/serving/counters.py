"""What one release has done, as plain integers; written on the event loop only.

Decides nothing and formats nothing: who wants to show a figure reads it here (``pages/status.py``,
``figures/catalogue.py``). All of it together costs a request some 0.5 us.
"""

from __future__ import annotations

import time
from typing import ClassVar

from edged.errors import Code, EdgedError
from edged.serving.lifecycle import Event
from edged.telemetry.exposition import CELLS

_ORIGINS = 64
"""An origin is looked up quicker than its transport is cut out, but it names a peer's user: so many
are counted apart, then their counts are put together."""


_NO_TIME = (0 - 1).bit_length()
"""The cell of a histogram for what took no time."""


class Counters:
    """Totals since the release was first wanted; times in nanoseconds.

    ``run_times``, ``queue_times`` and ``durations`` are histograms, see ``exposition.CELLS``.
    """

    __slots__ = (
        "_origins",
        "_transports",
        "batches",
        "cached",
        "duration_ns",
        "durations",
        "failed",
        "inline_batches",
        "last_ns",
        "load_failures",
        "loads",
        "queue_ns",
        "queue_times",
        "rows",
        "run_ns",
        "run_times",
    )

    failures_of_all: ClassVar[int] = 0
    """Answers that were an error, of any release: who looks for them need not look at each."""

    def __init__(self) -> None:
        self.rows = 0
        self.batches = 0
        self.inline_batches = 0
        self.cached = 0
        """Answers that were given again; no run was asked for."""
        self.last_ns = 0
        """When the last run ended, nanoseconds since 1970; 0 for never."""
        self.loads = 0
        self.load_failures = 0
        self.run_ns = 0
        self.queue_ns = 0
        self.duration_ns = 0
        self.run_times = [0] * CELLS
        self.queue_times = [0] * CELLS
        self.durations = [0] * CELLS
        self.failed: dict[Code, int] = {}
        self._origins: dict[str, int] = {}
        self._transports: dict[str, int] = {}

    def moved(self, event: Event) -> None:
        """The release changed its state."""
        if event is Event.LOAD:
            self.loads += 1
        elif event is Event.FAIL:
            self.load_failures += 1

    def waited(self, waited_ns: int) -> None:
        """A request's turn has come."""
        self.queue_ns += waited_ns
        self.queue_times[(waited_ns - 1).bit_length()] += 1

    def ran(self, run_ns: int, rows: int) -> None:
        """A batch was run."""
        self.batches += 1
        self.rows += rows
        self.run_ns += run_ns
        self.last_ns = time.time_ns()
        self.run_times[(run_ns - 1).bit_length()] += 1

    def answered(self, origin: str, error: EdgedError | None, duration_ns: int) -> None:
        """A request was answered, so long after it was taken."""
        self.duration_ns += duration_ns
        self.durations[(duration_ns - 1).bit_length()] += 1
        try:
            self._origins[origin] += 1
        except KeyError:
            self._begin(origin)
        if error is not None:
            Counters.failures_of_all += 1
            self.failed[error.code] = self.failed.get(error.code, 0) + 1

    def served(self, origin: str, waited_ns: int, duration_ns: int) -> None:
        """``waited`` and ``answered`` in one, for a request that went well: nearly all do."""
        self.queue_ns += waited_ns
        self.queue_times[(waited_ns - 1).bit_length()] += 1
        self.duration_ns += duration_ns
        self.durations[(duration_ns - 1).bit_length()] += 1
        try:
            self._origins[origin] += 1
        except KeyError:
            self._begin(origin)

    def also(self, origin: str, count: int, duration_ns: int) -> None:
        """So many more were served with the one before, without a wait of their own."""
        self.duration_ns += count * duration_ns
        self.durations[(duration_ns - 1).bit_length()] += count
        self.queue_times[_NO_TIME] += count
        try:
            self._origins[origin] += count
        except KeyError:
            self._begin(origin)
            self._origins[origin] += count - 1

    def ran_alone(self, origin: str, run_ns: int, rows: int, *, is_inline: bool) -> None:
        """``ran`` and ``served`` in one, for a request that ran as soon as it came."""
        self.inline_batches += is_inline
        self.batches += 1
        self.rows += rows
        self.run_ns += run_ns
        self.last_ns = time.time_ns()
        self.duration_ns += run_ns
        cell = (run_ns - 1).bit_length()
        self.run_times[cell] += 1
        self.durations[cell] += 1
        self.queue_times[_NO_TIME] += 1
        try:
            self._origins[origin] += 1
        except KeyError:
            self._begin(origin)

    def recalled(self, origin: str, duration_ns: int) -> None:
        """A request was answered with what had been answered before."""
        self.cached += 1
        self.served(origin, 0, duration_ns)

    @property
    def transports(self) -> dict[str, int]:
        """Answers by the way their requests came."""
        found = dict(self._transports)
        for origin, count in self._origins.items():
            transport = transport_of(origin)
            found[transport] = found.get(transport, 0) + count
        return found

    @property
    def requests(self) -> int:
        """Answers in all."""
        return sum(self.durations)

    @property
    def failures(self) -> int:
        """Answers that were an error."""
        return sum(self.failed.values())

    def _begin(self, origin: str) -> None:
        if len(self._origins) >= _ORIGINS:
            self._transports = self.transports
            self._origins.clear()
        self._origins[origin] = 1

    def as_dict(self) -> dict[str, int]:
        """The totals, for the status page."""
        names = ("requests", "failures", "rows", "batches", "run_ns", "queue_ns", "inline_batches")
        return {name: getattr(self, name) for name in names}


def transport_of(origin: str) -> str:
    """``uds`` of ``uds:1000``: the part that we name ourselves, never a peer."""
    return origin.partition(":")[0]
