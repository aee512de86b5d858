"""When a changed directory has come to rest and may be read.

Decides from events and the time, both passed in; never reads a clock, a file or an event queue.

    quiet      settle_ns after the last change ...
    latest     ... but at most max_delay_ns after the first one, so that endless saves still apply
    open       and never while a file is being written, until it is closed, deleted or replaced,
               or until its writer has been silent for open_limit_ns
"""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_DELAY_NS = 1_000_000_000
"""Somebody who saves without a pause still sees a result each second."""
OPEN_LIMIT_NS = 10_000_000_000
"""A writer that neither writes nor closes for 10 s has forgotten the file (an editor that keeps it
open, a shell redirection); waiting longer would hide everybody else's changes."""


@dataclass(slots=True)
class _Writer:
    """Somebody who holds a file open: since when, and when last heard of."""

    since_ns: int
    last_ns: int


@dataclass(slots=True)
class Settler:
    """Gathers changes and says when they are due.

    Args:
        settle_ns: quiet time after the last change.
        max_delay_ns: longest wait after the first change.
        open_limit_ns: longest silence of a writer that holds its file open.
    """

    settle_ns: int
    max_delay_ns: int = MAX_DELAY_NS
    open_limit_ns: int = OPEN_LIMIT_NS
    noted: int = 0
    """Changes so far."""
    _first_ns: int | None = None
    _last_ns: int = 0
    _writing: dict[str, _Writer] = field(default_factory=dict)

    def changed(self, now_ns: int, file: str | None = None) -> None:
        """Something changed and is complete: a file was closed, renamed, deleted or linked.

        Args:
            now_ns: monotonic clock, nanoseconds.
            file: whose writer, if any, is done; None when no single file is meant.
        """
        writer = self._writing.pop(file, None) if file is not None else None
        if writer is not None and now_ns - writer.since_ns >= self.max_delay_ns:
            # The longest wait passed while nothing could be read; now the quiet time counts.
            self._first_ns = now_ns
        self._note(now_ns)

    def writing(self, now_ns: int, file: str) -> None:
        """A file was written to and is still open."""
        writer = self._writing.setdefault(file, _Writer(now_ns, now_ns))
        writer.last_ns = now_ns
        self._note(now_ns)

    @property
    def has_writers(self) -> bool:
        """A file is known to be open for writing."""
        return bool(self._writing)

    @property
    def is_pending(self) -> bool:
        """Something changed and was not taken yet."""
        return self._first_ns is not None

    def forget_writers(self) -> None:
        """Events were lost, so nobody knows who still writes."""
        self._writing.clear()

    def due_ns(self) -> int | None:
        """The moment at which to read, as far as is known now; None when nothing changed."""
        if self._first_ns is None:
            return None
        due = min(self._last_ns + self.settle_ns, self._first_ns + self.max_delay_ns)
        if self._writing:
            due = max(
                due, max(writer.last_ns for writer in self._writing.values()) + self.open_limit_ns
            )
        return due

    def take(self, now_ns: int) -> bool:
        """True once when the changes are due; what comes after counts anew."""
        due = self.due_ns()
        if due is None or now_ns < due:
            return False
        self._first_ns = None
        self._writing.clear()
        return True

    def _note(self, now_ns: int) -> None:
        self.noted += 1
        if self._first_ns is None:
            self._first_ns = now_ns
        self._last_ns = now_ns
