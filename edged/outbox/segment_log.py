"""The log: append-only files of entries, read in order, removed as they are delivered.

Decides what is kept within the byte cap and what goes. Used by one thread; raises OSError where the
file system fails, and then holds what it held before. ``sync`` is what makes an entry safe.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

from edged.outbox.age import Moment, age_ns
from edged.outbox.answered import Answered
from edged.outbox.entry import Entry, Policy
from edged.outbox.marks import SIZE_BYTES, Marks
from edged.outbox.segment import (
    HEADER_BYTES,
    SUFFIX,
    Segment,
    make_segment,
    open_segment,
    read_from,
    records,
    write_entries,
)
from edged.outbox.tally import Tally

_BEGUN_STEP = 4096
"""Entries given out for each time the mark of those is made durable."""
_LARGEST_SEGMENT = 16 << 20
_SMALLEST_SEGMENT = 16 << 10
_MOST_KEYS = 65_536


class SegmentLog:
    """See above.

    Args:
        disk: the file system.
        max_bytes: most bytes on disk.
        max_age_ns: older entries are dropped, and counted; 0 = never.
        boot: the boot of the machine.
    """

    def __init__(self, disk: Any, max_bytes: int, max_age_ns: int, boot: bytes) -> None:
        self.tally = Tally()
        self.is_unsafe = False
        """A sync failed; nothing that is put in after it is safe."""
        self.outstanding: dict[int, Entry] = {}
        """Read and not yet finished, in order."""
        self.given: set[int] = set()
        """Those of them that are on their way to the broker."""
        self._disk = disk
        self._marks = Marks(disk)
        self._boot = boot
        self._segment_bytes = max(_SMALLEST_SEGMENT, min(_LARGEST_SEGMENT, max_bytes // 16))
        # One segment's worth stays free, for what is carried out of one that goes.
        self._cap = max_bytes - SIZE_BYTES - self._segment_bytes
        self._max_age_ns = max_age_ns
        self._segments: list[Segment] = []
        self._next, self._recovered_to, self._unsynced = 1, 0, False
        self._read_segment: Segment | None = None
        self._read_at, self._read_to = HEADER_BYTES, 0
        self._latest: dict[bytes, tuple[int, Segment]] = {}
        self._answered = Answered()

    def open(self) -> None:
        """Read what an earlier process left. A torn end is cut, damage is counted."""
        self._disk.prepare()
        self._answered.add_all(self._marks.open())
        names = [name for name in self._disk.names() if name.endswith(SUFFIX)]
        for name in names:
            segment = open_segment(self._disk, name)
            if segment is None:
                self.tally.torn += 1
                self._disk.remove(name)
                continue
            self._recover(segment, is_last=name == names[-1])
        if self._segments:
            # A killed process may have left what it had not synced; from here on it counts as safe.
            self._disk.sync(self._segments[-1].file)
        marks = self._marks
        self._next = max(self._next, marks.delivered + 1, marks.begun + 1)
        self._recovered_to = marks.begun if marks.is_known else self._next - 1
        self._read_to = marks.delivered
        self._read_segment = self._segments[0] if self._segments else None
        self._drop_finished()

    def _recover(self, segment: Segment, *, is_last: bool) -> None:
        for entry, start, end in records(self._disk, segment):
            if entry is None:
                if is_last and end == self._disk.size(segment.file):
                    self.tally.torn += 1
                    self._disk.cut(segment.file, start)
                    break
                self.tally.corrupt += 1
                segment.flaws.add(start)
            else:
                self._answered.add(entry.sequence, entry.id)
                segment.newest, segment.last = entry.written, entry.sequence
                if entry.sequence > self._marks.delivered:
                    self._count_in(entry, segment)
            segment.end = end
        self._next = max(self._next, segment.first, segment.last + 1)
        if segment.last < segment.first:
            self._disk.close(segment.file)
            self._disk.remove(segment.name)
        else:
            self._segments.append(segment)

    def holds(self, value: bytes) -> bool:
        """Whether an entry with this id was put in before, as far as is remembered."""
        return value in self._answered

    def fits(self, entry: Entry) -> bool:
        """Whether an empty log would take it."""
        return entry.size_bytes + 2 * HEADER_BYTES <= self._cap

    def append(self, entry: Entry) -> bool:
        """Write an entry; False when there is no room, and nothing that may be dropped for it.

        Raises:
            OSError: it could not be written, and the log is as before.
        """
        need = entry.size_bytes
        if not self._make_room(need + HEADER_BYTES):
            return False
        if entry.policy is Policy.LATEST_ONLY and len(self._latest) >= _MOST_KEYS:
            # Each key takes memory, and a hostile publisher may invent any number of them.
            is_known = entry.key in self._latest
            entry = entry if is_known else entry._replace(policy=Policy.DROP_OLDEST)
        segment = self._writable(need)
        entry = entry._replace(sequence=self._next)
        write_entries(self._disk, segment, [entry])
        self._next += 1
        self._unsynced = True
        self._count_in(entry, segment)
        self._answered.add(entry.sequence, entry.id)
        return True

    def append_all(self, entries: Sequence[Entry]) -> bool:
        """As ``append``, with one call; False, with nothing done, where each wants a look."""
        left = self._cap - self.bytes_on_disk + SIZE_BYTES - HEADER_BYTES
        segment = self._segments[-1] if self._segments else None
        if segment is None or not segment.takes(entries, self._boot, left, self._segment_bytes):
            return False
        placed = [one._replace(sequence=at) for at, one in enumerate(entries, self._next)]
        write_entries(self._disk, segment, placed)
        self._next += len(placed)
        self._unsynced = True
        for entry in placed:
            segment.count(entry, 1)
            self._answered.add(entry.sequence, entry.id)
        return True

    def sync(self) -> None:
        """Make all that was appended durable."""
        if self._unsynced and self._segments:
            # What the kernel could not write it takes for written from then on: a second sync
            # would succeed, and promise nothing.
            self.is_unsafe = True
            self._disk.sync(self._segments[-1].file)
            self.is_unsafe = False
        self._unsynced = False

    def read(self, most: int) -> list[Entry]:
        """The next entries, in order; they are outstanding until they are finished."""
        found: list[Entry] = []
        while len(found) < most and self._read_segment is not None:
            segment = self._read_segment
            begin = self._read_at
            entries, self._read_at = read_from(self._disk, segment, begin)
            if not entries and begin < self._read_at and begin not in segment.flaws:
                self.tally.corrupt += 1
                segment.flaws.add(begin)
            for entry in entries:
                if entry.sequence > self._read_to and self._is_wanted(entry):
                    is_old = entry.sequence <= self._recovered_to
                    found.append(entry._replace(may_be_sent=is_old))
            if entries:
                self._read_to = max(self._read_to, entries[-1].sequence)
            if self._read_at >= segment.end:
                following = self._after(segment)
                if following is None:
                    break
                self._go_to(following)
        for entry in found:
            self.outstanding[entry.sequence] = entry
        self._begin_to(found[-1].sequence if found else 0)
        return found

    def _begin_to(self, sequence: int) -> None:
        marks = self._marks
        if sequence > marks.begun or (sequence and not marks.is_known):
            marks.begun = max(marks.begun, sequence + _BEGUN_STEP)
            marks.is_known = True
            marks.write()
            marks.sync()

    def finish(self, sequences: Iterable[int]) -> None:
        """These need no delivery any more: the broker has them, or they are too old."""
        touched = False
        for sequence in sequences:
            self.given.discard(sequence)
            entry = self.outstanding.pop(sequence, None)
            if entry is not None:
                touched = True
                self._count_out(entry)
        if touched:
            self._advance()
            self._drop_finished()

    def expire(self, at: Moment) -> None:
        """Remove files whose last entry is too old, delivered or not."""
        for segment in list(self._segments):
            newest = segment.newest
            if not segment.live or newest is None or not self._max_age_ns:
                continue
            if age_ns(newest, at) >= self._max_age_ns:
                self.tally.expired += segment.live
                self._discard(segment)

    @property
    def has_unread(self) -> bool:
        """Whether ``read`` would find something; another thread may ask."""
        segment, last = self._read_segment, self._segments[-1:]
        if segment is None:
            return False
        return self._read_at < segment.end or (bool(last) and last[0] is not segment)

    @property
    def live(self) -> int:
        """Entries that wait to be delivered."""
        return sum(segment.live for segment in self._segments)

    @property
    def bytes_on_disk(self) -> int:
        """What the files take."""
        return SIZE_BYTES + sum(segment.end for segment in self._segments)

    def oldest_ns(self, at: Moment) -> int:
        """Age of the oldest entry that waits, or of one written soon after it."""
        for entry in self.outstanding.values():
            return age_ns(entry.written, at)
        if self._read_segment is None or not self.live:
            return 0
        entries, _ = read_from(self._disk, self._read_segment, self._read_at, 4096)
        return age_ns(entries[0].written, at) if entries else 0

    def close(self) -> None:
        """Make all durable, and close."""
        try:
            self.sync()
            self._write_marks()
            self._marks.sync()
        finally:
            for segment in self._segments:
                self._disk.close(segment.file)
            self._marks.close()

    def _is_wanted(self, entry: Entry) -> bool:
        newest = self._latest.get(entry.key, (0, None))[0]
        return entry.policy is not Policy.LATEST_ONLY or newest == entry.sequence

    def _count_in(self, entry: Entry, segment: Segment) -> None:
        segment.count(entry, 1)
        if entry.policy is not Policy.LATEST_ONLY:
            return
        sequence, older = self._latest.get(entry.key, (0, segment))
        if sequence and sequence not in self.given:
            # On its way already: the broker's answer will end it.
            self.outstanding.pop(sequence, None)
            older.count(entry, -1)
            self.tally.superseded += 1
        self._latest[entry.key] = (entry.sequence, segment)

    def _count_out(self, entry: Entry) -> None:
        segment = self._holder(entry.sequence)
        if segment is not None:
            segment.count(entry, -1)
        if self._latest.get(entry.key, (0, None))[0] == entry.sequence:
            del self._latest[entry.key]

    def _holder(self, sequence: int) -> Segment | None:
        return next((one for one in self._segments if one.first <= sequence <= one.last), None)

    def _advance(self) -> None:
        waiting = next(iter(self.outstanding), 0)
        self._marks.delivered = waiting - 1 if waiting else self._read_to
        self._write_marks()

    def _write_marks(self) -> None:
        """Best effort: without them entries are delivered again, and a full disk must drain."""
        try:
            self._marks.write()
        except OSError:
            self.tally.failed += 1

    def _drop_finished(self) -> None:
        first = next(iter(self.outstanding), self._read_to + 1)
        for segment in self._segments[:-1]:
            # Behind the reader nothing waits, whatever was counted: damage may have taken some.
            is_behind = segment.last < first and segment is not self._read_segment
            if not segment.live or is_behind:
                self._discard(segment)

    def _writable(self, need: int) -> Segment:
        last = self._segments[-1] if self._segments else None
        if last is not None and last.boot == self._boot:
            is_empty = last.end == HEADER_BYTES
            if is_empty or last.end + need <= self._segment_bytes:
                return last
        self.sync()
        made = make_segment(self._disk, self._next, self._boot)
        self._segments.append(made)
        if self._read_segment is None:
            self._go_to(made)
        self._drop_finished()
        return made

    def _make_room(self, need: int) -> bool:
        while self.bytes_on_disk - SIZE_BYTES + need > self._cap:
            if self._segments and not self._segments[-1].live:
                self._discard(self._segments[-1])
                continue
            victim = self._victim()
            if victim is None or need + HEADER_BYTES > self._cap:
                return False
            self._evict(victim)
        return True

    def _victim(self) -> Segment | None:
        return next((one for one in self._segments if not one.held), None)

    def give_up_oldest(self) -> bool:
        """Remove the oldest file that may be dropped, for a disk that is full; False if none is."""
        victim = self._victim()
        if victim is None:
            return False
        self.tally.dropped += victim.live
        self._discard(victim)
        return True

    def _evict(self, victim: Segment) -> None:
        """Give up the oldest file, but carry on what is the only one of its key where it is few."""
        found = (entry for entry, _, _ in records(self._disk, victim))
        alone = [entry for entry in found if entry is not None and self._is_alone(entry)]
        if sum(entry.size_bytes for entry in alone) * 2 > victim.end:
            alone = []
        self.tally.dropped += victim.live - len(alone)
        if victim is self._segments[-1]:
            self.sync()
            self._segments.append(make_segment(self._disk, self._next, self._boot))
        self._carry(alone)
        self.sync()
        self._discard(victim)

    def _is_alone(self, entry: Entry) -> bool:
        is_latest = entry.policy is Policy.LATEST_ONLY and self._is_wanted(entry)
        return is_latest and entry.sequence not in self.given

    def _carry(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            segment = self._segments[-1]
            written = entry.written
            if written.boot != self._boot:
                written = written._replace(boot=self._boot, boot_ns=0)  # as if of this boot's start
            moved = entry._replace(sequence=self._next, written=written)
            write_entries(self._disk, segment, [moved])
            self._next += 1
            self._unsynced = True
            self._count_in(moved, segment)
            self.tally.superseded -= 1

    def _discard(self, segment: Segment) -> None:
        """Remove a file; the ids that it carries move into the marks first."""
        ids = self._answered.between(segment.first, segment.last)
        if ids:
            with contextlib.suppress(OSError):  # then a duplicate is possible, and marked
                self._marks.keep_ids(ids)
                self._marks.sync()
        if self._read_segment is segment:
            self._read_to = max(self._read_to, segment.last)
            self._go_to(self._after(segment))
        self._segments.remove(segment)
        for sequence in [one for one in self.outstanding if segment.first <= one <= segment.last]:
            del self.outstanding[sequence]
        for key in [key for key, (_, holder) in self._latest.items() if holder is segment]:
            del self._latest[key]
        self._disk.close(segment.file)
        self._disk.remove(segment.name)
        self._advance()

    def _after(self, segment: Segment) -> Segment | None:
        at = self._segments.index(segment) + 1
        return self._segments[at] if at < len(self._segments) else None

    def _go_to(self, segment: Segment | None) -> None:
        self._read_segment, self._read_at = segment, HEADER_BYTES
