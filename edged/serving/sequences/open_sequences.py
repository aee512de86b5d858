"""The open sequences of one model, over all its releases: their states, and whose turn it is.

One request of a sequence is under way at a time, and the others wait in its line; requests of
different sequences meet in the release's queue and share runs. A state changes when a run has
given the next one, and by nothing else. Used from the event loop only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edged.errors import (
    DeadlineExceededError,
    EdgedError,
    InvalidRequestError,
    ModelNotReadyError,
    QueueFullError,
    RuntimeFailureError,
    SequenceNotFoundError,
    TensorMismatchError,
    TooLargeError,
)
from edged.messages import SequencedRequest
from edged.serving.answering import BACK_NS
from edged.serving.scheduling.alarm import Alarm
from edged.serving.scheduling.precedence import NEVER_NS
from edged.serving.scheduling.scheduler import Waiting
from edged.serving.sequences.open_sequence import Sequence, Step
from edged.serving.sequences.room import Idle, Key, Need, Room, make_room, next_due_ns, overdue

if TYPE_CHECKING:
    from edged.serving.sequences.stateful import StatefulRelease

log = logging.getLogger("edged.serving")

_ID_SHOWN = 64
"""Characters of an id that a message repeats."""


class OpenSequences:
    """See above. Counts what became of sequences, as plain integers."""

    def __init__(self) -> None:
        self.releases: list[StatefulRelease] = []
        self.size_bytes = 0
        self.begun = self.ended = self.evicted = self.timed_out = self.lost = 0
        self._open: dict[Key, Sequence] = {}
        self._alarm = Alarm(self._on_timer)

    def __len__(self) -> int:
        return len(self._open)

    def answerer(self, asked: StatefulRelease, request: SequencedRequest) -> StatefulRelease:
        """Who goes on with a sequence: who was asked, or the release that it belongs to.

        Raises:
            SequenceNotFoundError: that is gone, and ``asked`` cannot go on with its states.
            ModelNotReadyError: it is not gone; its worker died, and is started again.
            InvalidRequestError: likewise, and the request names ``asked``.
        """
        sequence = self._open.get(Key(request.origin, request.sequence.id))
        if sequence is None or request.sequence.start:
            return asked
        home = sequence.home
        if home is asked or asked.can_follow(home):
            return asked
        if not home.goes_on:
            if home.is_coming_back:
                words = (
                    f"{home.owner}, which {_shown(sequence.key)} goes on with, is starting again"
                )
                raise ModelNotReadyError(words, retry_after_ns=BACK_NS)
            raise _not_open(asked, sequence.key)
        if request.release is not None:
            raise InvalidRequestError(
                f"{_shown(sequence.key)} belongs to release {home.number}, and {asked.owner} does "
                "not go on with its state: ask without a release, or start it anew"
            )
        return home

    def take(self, release: StatefulRelease, item: Waiting, request: SequencedRequest) -> None:
        """Take a request for who answers it.

        Raises:
            SequenceNotFoundError: it begins nothing, and there is nothing to go on with.
            QueueFullError: there is no room, for it or for its sequence.
            EdgedError: it does not fit; nothing has changed.
        """
        key = Key(request.origin, request.sequence.id)
        sequence = self._open.get(key)
        if request.sequence.start:
            release.check_line(item)
            sequence = self._begin(release, key, item.rows)
        elif sequence is None:
            raise _not_open(release, key)
        else:
            if release.states.has_rows and item.rows != sequence.rows and request.inputs:
                raise TensorMismatchError(
                    f"{release.owner}: {_shown(key)} has {sequence.rows} rows since its start; "
                    f"this request has {item.rows}"
                )
            release.check_line(item)
        before, sequence.home, item.queue = sequence.home, release, release
        if before is not release:
            before.unbound()
        step = Step(item, request, item.on_response, sequence, release)
        if sequence.is_idle:
            try:
                self.let_go(step)
            finally:
                self.go_on(sequence)
            return
        sequence.line.append(step)
        release.stand_in_line(step)
        self._alarm.arm(request.deadline_ns)

    def let_go(self, step: Step) -> None:
        """Let a request have its turn.

        Raises:
            EdgedError: the release does not take it; a sequence that it was to begin is not open.
        """
        sequence, release = step.sequence, step.release
        states = sequence.states
        if step.starts:
            states, sequence.states = release.states.fresh(step.item.rows), None
        if states is None:
            raise _not_open(release, sequence.key)
        if step.request.only_ends:
            sequence.states = None
            release.end(step)
            return
        sequence.now = step
        try:
            release.join(step, states)
        except BaseException:
            sequence.now = None
            raise

    def go_on(self, sequence: Sequence) -> None:
        """Let the next of its line go, until one is under way or there is none."""
        sequence.is_moving = True  # whoever is told meanwhile and asks again stands in line
        try:
            while sequence.now is None and sequence.line:
                self._next(sequence)
        finally:
            sequence.is_moving = False
        if not sequence.is_idle:
            return
        if sequence.states is None:
            self._close(sequence)
            self.ended += 1
        else:
            sequence.used_ns = time.monotonic_ns()
            self._alarm.arm(sequence.used_ns + sequence.home.sequence.idle_timeout)

    def _next(self, sequence: Sequence) -> None:
        step = sequence.line.popleft()
        if step.is_over:
            # It was to begin anew, and never ran: what was kept before is not for those after it.
            sequence.states = None
            return
        step.release.leave_line(step)
        try:
            self.let_go(step)
        except EdgedError as exc:
            step.release.refuse(step, exc)
        except Exception:
            log.exception("a request from %s could not be handled", step.request.origin)
            words = "the request could not be handled; see the daemon's log"
            step.release.refuse(step, RuntimeFailureError(words))

    def withdraw(self, step: Step, error: EdgedError) -> None:
        """Answer one that stands in a line."""
        sequence = step.sequence
        if step.starts:
            step.is_over = True
        else:
            sequence.line.remove(step)
        step.release.leave_line(step)
        step.release.refuse(step, error)

    def pass_on(self, old: StatefulRelease, new: StatefulRelease) -> None:
        """Let ``new`` answer what waits for ``old``, each sequence in its order."""
        for sequence in list(self._open.values()):
            for step in sequence.line:
                if step.release is old and not step.is_over:
                    old.leave_line(step)
                    step.hand_to(new)
            now = sequence.now
            if now is not None and now.release is old and old.take_back(now):
                sequence.now = None
                sequence.line.appendleft(now)
                now.hand_to(new)
            if sequence.home is old:
                sequence.home = new
            self.go_on(sequence)

    def bound_to(self, release: StatefulRelease) -> int:
        """How many sequences only this release can go on with, and somebody can ask it to."""
        others = [one for one in self.releases if one is not release and one.answers]
        if not others or any(one.can_follow(release) for one in others):
            return 0
        return sum(one.home is release for one in self._open.values())

    def give_up(self, release: StatefulRelease) -> None:
        """Close those that are bound to a release and idle: it has waited long enough."""
        for sequence in [one for one in self._open.values() if one.home is release]:
            if sequence.is_idle:
                self._close(sequence)
                self.lost += 1

    def abandon(self) -> None:
        """No release of the model is left: nobody can go on with what is open."""
        for sequence in [one for one in self._open.values() if one.is_idle]:
            self._close(sequence)
            self.lost += 1
        self._alarm.cancel()

    def as_dict(self) -> dict[str, int]:
        """For the status page."""
        names = ("begun", "ended", "evicted", "timed_out", "lost")
        counts = {name: getattr(self, name) for name in names}
        return {"open": len(self._open), "state_bytes": self.size_bytes, **counts}

    def _begin(self, release: StatefulRelease, key: Key, rows: int) -> Sequence:
        """A sequence that begins, in the place of what is open under its key."""
        before = self._open.get(key)
        size_bytes = release.states.size_bytes(rows)
        self._make_room(release, before, size_bytes)
        if before is None:
            before = self._open[key] = Sequence(key, release, rows, 0)
            self.begun += 1
        self.size_bytes += size_bytes - before.size_bytes
        before.rows, before.size_bytes = rows, size_bytes
        return before

    def _make_room(
        self, release: StatefulRelease, before: Sequence | None, size_bytes: int
    ) -> None:
        config = release.sequence
        if size_bytes > config.max_state:
            raise TooLargeError(
                f"{release.owner}: states of {size_bytes} bytes for so many rows; the limit is "
                f"{config.max_state} (sequence.max_state)"
            )
        room = Room(config.max_sequences, config.max_state, config.when_full == "evict_oldest")
        is_new = before is None
        need = Need(
            len(self._open) + is_new,
            self.size_bytes + size_bytes - (0 if before is None else before.size_bytes),
        )
        if need.sequences <= room.most and need.size_bytes <= room.most_bytes:
            return
        idle = [one for one in self._idle() if before is None or one.key != before.key]
        given_up = make_room(idle, need, room)
        if given_up is None:
            due_ns = next_due_ns(idle)
            wait_ns = 0 if due_ns is None else max(0, due_ns - time.monotonic_ns())
            raise QueueFullError(
                f"{release.owner}: {len(self._open)} sequences of {self.size_bytes} bytes are "
                f"open; the limits are {room.most} (sequence.max_sequences) and {room.most_bytes} "
                "bytes (sequence.max_state)",
                retry_after_ns=wait_ns,
            )
        for key in given_up:
            self._close(self._open[key])
            self.evicted += 1

    def _idle(self) -> Iterator[Idle]:
        return (one.idle for one in self._open.values() if one.is_idle)

    def _close(self, sequence: Sequence) -> None:
        if self._open.pop(sequence.key, None) is None:
            return  # given up with all others
        self.size_bytes -= sequence.size_bytes
        sequence.home.unbound()

    def _on_timer(self) -> None:
        now_ns = time.monotonic_ns()
        late = [one for one in self._lined() if (one.request.deadline_ns or NEVER_NS) <= now_ns]
        for step in late:
            if not step.is_over and step in step.sequence.line:
                words = f"{step.release.owner}: the deadline passed behind others of its sequence"
                self.withdraw(step, DeadlineExceededError(words))
        for key in overdue(self._idle(), now_ns):
            self._close(self._open[key])
            self.timed_out += 1
        self._alarm.arm(next_due_ns(self._idle()))
        for step in self._lined():
            self._alarm.arm(step.request.deadline_ns)

    def _lined(self) -> Iterator[Step]:
        return (step for one in self._open.values() for step in one.line if not step.is_over)


def _not_open(release: StatefulRelease, key: Key) -> SequenceNotFoundError:
    return SequenceNotFoundError(
        f"{release.owner}: {_shown(key)} is not open: it was never begun, has ended, or was given "
        "up after idle time or for another; its state is gone: begin with start"
    )


def _shown(key: Key) -> str:
    return f'sequence "{str(key.id)[:_ID_SHOWN]}"'
