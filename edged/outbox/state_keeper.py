"""Keeps states safe on disk, many with one sync, without anybody waiting for the disk.

Two sides, as of the outbox: ``put`` is the house's; ``step`` is a thread's of its own, and of tests
by hand. Of the states of one key that come while the disk is at work only the newest is written.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edged.outbox.disk import Disk
from edged.outbox.outbox import Post
from edged.outbox.states import StateLog
from edged.system.cores import spread

log = logging.getLogger("edged.outbox")

_AGAIN_S = 1.0
"""A disk that took nothing is asked again after so long."""

OnKept = Callable[[], None]


class StateKeeper:
    """See above.

    Args:
        disk: the folder's file system calls.
        post: has the house's thread call something, soon; reports go this way.
    """

    def __init__(self, disk: Any, post: Post) -> None:
        self.on_change: Callable[[], None] = _nothing
        """Called by ``post`` when ``problem`` is another."""
        self.problem = ""
        """Why nothing can be kept now, for people; empty while it can."""
        self._post = post
        self._log = StateLog(disk)
        self._wake = threading.Condition()
        self._pending: dict[bytes, tuple[bytes, list[OnKept]]] = {}
        self._is_stopping = self._has_failed = False
        self._kept = self._failed = 0
        self._thread: threading.Thread | None = None

    @classmethod
    def in_folder(cls, folder: Path, post: Post) -> StateKeeper:
        """A keeper on the real file system."""
        return cls(Disk(folder), post)

    def open(self) -> dict[bytes, bytes]:
        """What an earlier process left, by key; raises OSError."""
        found = self._log.open()
        if self._log.damaged:
            log.warning("%d damaged records of states were skipped", self._log.damaged)
        return found

    def start(self) -> None:
        """Begin to work, in a thread."""
        self._thread = threading.Thread(target=self._run, name="edged-states", daemon=True)
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
            log.error("the states could not be closed well: %s", exc.strerror)

    def put(self, key: bytes, state: bytes, on_kept: OnKept | None = None) -> None:
        """Keep a state, the newest of its key; an empty one is none.

        Args:
            key: whose.
            state: it.
            on_kept: called once by ``post`` when this one or a newer is on disk; never after the
                disk failed.
        """
        with self._wake:
            waiting = self._pending[key][1] if key in self._pending else []
            if on_kept is not None:
                waiting.append(on_kept)
            self._pending[key] = (state, waiting)
            self._wake.notify()

    def stats(self) -> dict[str, Any]:
        """For the status page."""
        return {
            "bytes": self._log.bytes_on_disk,
            "kept": self._kept,
            "damaged": self._log.damaged,
            "failed": self._failed,
            "problem": self.problem or None,
        }

    def _run(self) -> None:
        spread()
        while True:
            with self._wake:
                if self._is_stopping and (not self._pending or self.problem):
                    return
                if not self._pending and not self._is_stopping:
                    self._wake.wait()
                elif self.problem:
                    self._wake.wait(_AGAIN_S)
            try:
                self.step()
            except Exception as exc:
                log.exception("keeping states failed")
                self._say(f"keeping states failed: {type(exc).__name__}; restart the daemon")
                self._has_failed = True
            if self._has_failed:
                return

    def step(self) -> None:
        """Write what waits, sync once, report."""
        with self._wake:
            taken, self._pending = self._pending, {}
        if not taken or self._has_failed:
            return
        try:
            for key, (state, _) in taken.items():
                self._log.write(key, state)
            self._log.sync()
        except OSError as exc:
            self._failed += 1
            if self._log.is_unsafe:
                self._has_failed = True
                self._say(f"the disk does not keep states: {exc.strerror}; restart the daemon")
                return
            self._say(f"states cannot be written: {exc.strerror}")
            self._put_back(taken)
            return
        self._kept += len(taken)
        self._say("")
        reports = [one for _, waiting in taken.values() for one in waiting]
        if reports:
            self._post(lambda: _tell(reports))

    def _put_back(self, taken: dict[bytes, tuple[bytes, list[OnKept]]]) -> None:
        """Try them again later, but for those that a newer one has come for."""
        with self._wake:
            for key, (state, waiting) in taken.items():
                newer = self._pending.get(key)
                if newer is None:
                    self._pending[key] = (state, waiting)
                else:
                    newer[1][:0] = waiting

    def _say(self, problem: str) -> None:
        if problem == self.problem:
            return
        if problem:
            log.error("%s; what needs it is not acknowledged", problem)
        self.problem = problem
        self._post(self.on_change)


def _tell(reports: list[OnKept]) -> None:
    for one in reports:
        one()


def _nothing() -> None:
    pass
