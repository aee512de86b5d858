"""The outbox: puts entries safely on disk, many with one sync, and gives them out in order.

Two sides. The house's side (``put``, ``take``, ``done``, ``rewind``) never waits for the disk; the
other is ``step``, which a thread of its own calls, and tests by hand. An entry that was reported as
kept survives kill -9 and a power cut until the broker has it, its age is over, or its policy lets
it go; each of those is counted.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edged.outbox.age import Moment, age_ns, now
from edged.outbox.disk import Disk
from edged.outbox.entry import Entry, Policy, is_too_old
from edged.outbox.segment_log import SegmentLog
from edged.system.cores import spread

log = logging.getLogger("edged.outbox")

Post = Callable[[Callable[[], None]], object]
_READ_AHEAD = 256
_ENDS = 32
_TICK_S = 1.0
"""How often ages and a full disk are looked at when nothing else happens."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Waiting:
    """An entry that is not yet on disk, and who waits for that."""

    __slots__ = ("entry", "is_durable", "on_kept")

    def __init__(self, entry: Entry, on_kept: Callable[[str], None], *, is_durable: bool) -> None:
        self.entry = entry
        self.on_kept = on_kept
        self.is_durable = is_durable


class Outbox:
    """See above.

    Args:
        disk: the folder's file system calls.
        post: has the house's thread call something, soon; reports go this way.
        max_bytes: most bytes on disk.
        max_age_ns: older entries are dropped; 0 = never.
        clock: the present moment.
    """

    def __init__(
        self,
        disk: Any,
        post: Post,
        *,
        max_bytes: int,
        max_age_ns: int = 0,
        clock: Callable[[], Moment] = now,
    ) -> None:
        self.on_ready: Callable[[], None] = _nothing
        """Called by ``post`` when there is something to take again."""
        self.on_change: Callable[[], None] = _nothing
        """Called by ``post`` when ``problem`` is another."""
        self._said = ""
        self._clock = clock
        self._post = post
        self._max_bytes, self._max_age_ns = max_bytes, max_age_ns
        self._log = SegmentLog(disk, max_bytes, max_age_ns, clock().boot)
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._pending: deque[Waiting] = deque()
        self._blocked: deque[Waiting] = deque()
        self._ready: deque[Entry] = deque()
        self._finished: list[tuple[int, str]] = []
        self._sent: dict[int, Entry] = {}
        self._is_hungry = True
        self._is_stopping = False
        self._has_failed = ""
        self._full = ""
        self._ticked_ns = 0
        self._oldest_s = 0.0
        self._thread: threading.Thread | None = None

    @classmethod
    def in_folder(cls, folder: Path, post: Post, *, max_bytes: int, max_age_ns: int = 0) -> Outbox:
        """An outbox on the real file system."""
        return cls(Disk(folder), post, max_bytes=max_bytes, max_age_ns=max_age_ns)

    def open(self) -> None:
        """Read what an earlier process left; raises OSError."""
        self._log.open()
        self._oldest_s = self._log.oldest_ns(self._clock()) / 1e9
        tally = self._log.tally
        if tally.corrupt or tally.torn:
            log.warning("%d damaged, %d torn records were skipped", tally.corrupt, tally.torn)

    def start(self) -> None:
        """Begin to work, in a thread."""
        self._thread = threading.Thread(target=self._run, name="edged-outbox", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Put on disk what waits, and end."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        try:
            self._log.close()
        except OSError as exc:
            # Nothing was promised that is not synced; the rest of the house must still close.
            log.error("the outbox could not be closed well: %s", exc.strerror)

    # The house's side.

    def put(self, entry: Entry, on_kept: Callable[[str], None], *, is_durable: bool = True) -> None:
        """Keep an entry.

        Args:
            entry: what to deliver; ``written`` is set here.
            on_kept: called once by ``post`` when it is on disk, with an empty text, or with the
                reason why it never will be. Not called while there is no room for it, nor after
                the disk failed.
            is_durable: wait for the sync; else the write is enough, and a power cut may lose it.
        """
        entry = entry._replace(written=self._clock())
        with self._wake:
            self._pending.append(Waiting(entry, on_kept, is_durable=is_durable))
            self._wake.notify()

    def take(self) -> Entry | None:
        """The next entry to deliver, or None; ``on_ready`` says when to ask again."""
        while self._ready:
            entry = self._ready.popleft()
            if entry.sequence not in self._log.outstanding:
                continue  # gave way to a newer one meanwhile
            if is_too_old(entry, self._clock(), self._max_age_ns):
                self._finish(entry.sequence, "expired")
                continue
            self._log.given.add(entry.sequence)
            self._sent[entry.sequence] = entry
            return entry
        self._is_hungry = True
        if self._log.has_unread:
            with self._wake:
                self._wake.notify()
        return None

    def done(self, entry: Entry, *, is_refused: bool = False) -> None:
        """The broker has an entry, or refuses it for good."""
        if self._sent.pop(entry.sequence, None) is not None:
            self._finish(entry.sequence, "refused" if is_refused else "delivered")

    def rewind(self) -> None:
        """What was taken and is not done will be taken again, in order: the connection is gone."""
        again = [self._sent[sequence] for sequence in sorted(self._sent)]
        self._sent.clear()
        self._ready.extendleft(entry._replace(may_be_sent=True) for entry in reversed(again))

    def holds(self, value: bytes) -> bool:
        """Whether an entry with this id was kept before."""
        return self._log.holds(value)

    def age_s(self, entry: Entry) -> float:
        """How long an entry has waited."""
        return age_ns(entry.written, self._clock()) / 1e9

    @property
    def problem(self) -> str:
        """Why nothing can be kept now, for people; empty while it can."""
        return self._has_failed or self._full

    def stats(self) -> dict[str, Any]:
        """Fill, oldest (as of the last second), and what became of entries."""
        found = self._log
        return {
            "entries": found.live,
            "bytes": found.bytes_on_disk,
            "max_bytes": self._max_bytes,
            "oldest_s": self._oldest_s if found.live else 0.0,
            "waiting": len(self._blocked),
            **found.tally.as_dict(),
            "problem": self.problem or None,
        }

    def _finish(self, sequence: int, outcome: str) -> None:
        with self._wake:
            self._finished.append((sequence, outcome))
            if self._is_end_due():
                self._wake.notify()

    # The thread's side.

    def _run(self) -> None:
        spread()
        while True:
            with self._wake:
                if self._is_stopping and not (self._pending or self._finished):
                    return
                if not (self._is_stopping or self._has_work()):
                    self._wake.wait(_TICK_S)
            try:
                self.step()
            except Exception as exc:
                log.exception("the outbox failed")
                self._fail(f"the outbox failed: {type(exc).__name__}; restart the daemon")
                self._post(self.on_change)
                return

    def _has_work(self) -> bool:
        return bool(self._pending) or self._is_end_due() or self._wants_more()

    def _is_end_due(self) -> bool:
        """Ends are noted many at a time, or by the way; at once where somebody waits for room."""
        return len(self._finished) >= _ENDS or bool(self._blocked and self._finished)

    def _wants_more(self) -> bool:
        return self._is_hungry and len(self._ready) < _READ_AHEAD and self._log.has_unread

    def step(self) -> None:
        """Do what is to be done now: end, write, sync once, read ahead, report."""
        with self._lock:
            finished, self._finished = self._finished, []
            arrived = [*self._pending]
            self._pending.clear()
        if finished:
            for _, outcome in finished:
                tally = self._log.tally
                setattr(tally, outcome, getattr(tally, outcome) + 1)
            self._log.finish(sequence for sequence, _ in finished)
        at = self._clock()
        is_tick = at.boot_ns - self._ticked_ns >= _TICK_S * 1e9
        if is_tick:
            self._ticked_ns = at.boot_ns
            self._is_hungry = self._is_hungry or not self._ready
            self._log.expire(at)
        reports = self._keep(arrived, tries_blocked=bool(finished) or is_tick)
        found = self._read_ahead() if self._wants_more() else []
        if found:
            # Before they are synced: the broker takes them meanwhile. A request is acknowledged
            # after that only, and so comes again, marked, where the power fails in between.
            self._post(lambda: self._give(found))
        reports = self._sync(reports)
        if is_tick:
            self._oldest_s = self._log.oldest_ns(at) / 1e9
        if self.problem != self._said:
            self._said = self.problem
            self._post(self.on_change)
        if reports:
            self._post(lambda: _tell(reports))

    def _keep(self, arrived: list[Waiting], *, tries_blocked: bool) -> list[tuple[Waiting, str]]:
        """Write entries; those there is no room for stay, in order."""
        reports: list[tuple[Waiting, str]] = []
        if self._is_over():
            return []
        queue = deque(arrived)
        if self._is_written(arrived):
            reports = [(waiting, "") for waiting in arrived]
            queue.clear()
        if tries_blocked and self._blocked:
            queue.extendleft(reversed(self._blocked))
            self._blocked.clear()
        while queue and not self._is_over():
            waiting = queue.popleft()
            if waiting.entry.policy is Policy.BLOCK and self._blocked:
                self._blocked.append(waiting)  # order
                continue
            reason = self._write(waiting)
            if reason is None:
                self._blocked.append(waiting)
                continue
            reports.append((waiting, reason))
        if not self._blocked:
            self._full = ""
        return reports

    def _sync(self, reports: list[tuple[Waiting, str]]) -> list[tuple[Waiting, str]]:
        """Sync once for all that was written; what may be reported then."""
        if any(waiting.is_durable for waiting, _ in reports) and not self._is_over():
            try:
                self._log.sync()
            except OSError as exc:
                self._fail_for(exc)
        if self._is_over():
            return []
        self._log.tally.kept += sum(not reason for _, reason in reports)
        return reports

    def _is_written(self, arrived: list[Waiting]) -> bool:
        """Write all with one call, where nothing about them is unusual.

        Each call lets go of the interpreter, and may wait for it longer than the disk takes.
        """
        if self._blocked or len(arrived) < 2:
            return False
        try:
            return self._log.append_all([waiting.entry for waiting in arrived])
        except OSError:
            return False  # one by one it shows which of them

    def _write(self, waiting: Waiting) -> str | None:
        """Append; a reason why it never will be kept, empty when it is, None to wait for room."""
        entry, tally = waiting.entry, self._log.tally
        if not self._log.fits(entry):
            tally.refused += 1
            return f"{entry.size_bytes} bytes do not fit into the outbox (outbox.max_bytes)"
        while True:
            try:
                if self._log.append(entry):
                    return ""
            except OSError as exc:
                tally.failed += 1
                if self._log.is_unsafe:
                    self._fail_for(exc)
                    return None
                self._full = f"the outbox cannot be written: {exc.strerror}"
                if exc.errno in _FULL and self._log.give_up_oldest():
                    continue
            else:
                self._full = f"the outbox is full: {self._max_bytes} bytes (outbox.max_bytes)"
            break
        if entry.policy is Policy.BLOCK:
            tally.blocked += 1
            return None
        tally.dropped += 1
        return ""

    def _read_ahead(self) -> list[Entry]:
        try:
            found = self._log.read(_READ_AHEAD)
        except OSError as exc:
            self._log.tally.failed += 1
            log.error("the outbox cannot be read: %s", exc)
            self._is_hungry = False
            return []
        self._is_hungry = not found
        return found

    def _give(self, found: list[Entry]) -> None:
        """On the house's side: ``_ready`` is touched nowhere else."""
        self._ready.extend(found)
        self.on_ready()

    def _is_over(self) -> bool:
        return bool(self._has_failed)

    def _fail_for(self, exc: OSError) -> None:
        self._fail(f"the disk does not keep what is written: {exc.strerror}; restart the daemon")

    def _fail(self, reason: str) -> None:
        log.error("%s; acknowledgements stop, what is on disk is still delivered", reason)
        self._has_failed = reason


def _tell(reports: list[tuple[Waiting, str]]) -> None:
    for waiting, reason in reports:
        waiting.on_kept(reason)


def _nothing() -> None:
    pass
