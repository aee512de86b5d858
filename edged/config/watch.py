"""Notices changed configuration files: inotify as the accelerator, a poll as the guarantee.

Decides nothing itself: ``settle.py`` says when, ``places.py`` says where and what. No thread waits
and no timer runs but the poll's. Directories are watched, never files: editors replace files, and a
watch on a replaced file is deaf.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import stat
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from inotify_simple import INotify, flags

from edged.config.places import (
    Place,
    find_followed,
    find_places,
    fingerprint,
    fingerprint_followed,
)
from edged.config.settle import Settler
from edged.config.source import main_file
from edged.system.cores import spread

_log = logging.getLogger("edged.config")

_MASK = (
    flags.MODIFY
    | flags.CLOSE_WRITE
    | flags.ATTRIB
    | flags.CREATE
    | flags.DELETE
    | flags.MOVED_FROM
    | flags.MOVED_TO
    | flags.DELETE_SELF
    | flags.MOVE_SELF
    | flags.ONLYDIR
)
_STRUCTURE = flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO
_SELF_GONE = flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT | flags.IGNORED

_UNSTABLE_POLLS = 10
"""A poll that differs is believed when the next look agrees; after so many looks, anyway."""


class _State(NamedTuple):
    """What was seen: a hash of the configuration's files and one of the followed files."""

    config: str
    followed: str


@dataclass(slots=True)
class _Watch:
    """One directory and the names in it that matter: the configuration's, and followed ones."""

    directory: Path
    config: Place = field(default_factory=Place)
    followed: Place = field(default_factory=Place)


class Watcher:
    """Calls back on the loop when the files have changed and come to rest.

    Construct it before loading: what changes between the two is then noticed by ``start``.

    Args:
        root: edged.yaml or its directory; may be missing, be replaced, or come later.
        settle_ns: quiet time after the last change.
        poll_ns: time between two looks at the content.
        on_change: called with nothing, on the loop; reads the files itself.
    """

    def __init__(
        self, root: Path, *, settle_ns: int, poll_ns: int, on_change: Callable[[], None]
    ) -> None:
        self._main = main_file(root)
        self._poll_ns = poll_ns
        self._on_change = on_change
        self._settler = Settler(settle_ns)
        self._followed: tuple[Path, ...] = ()
        self._known = _look(self._main, ())
        self._polled: _State | None = None
        self._unstable = 0
        self._is_doubtful = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inotify: Any = None
        self._watches: dict[int, _Watch] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._poll_timer: asyncio.TimerHandle | None = None
        self._is_sampling = False
        self._sample_again = False
        # Of its own: a job given to threads of which several are idle wakes every one of them, and
        # this one comes every few seconds for as long as a device runs.
        self._thread = ThreadPoolExecutor(1, "edged-watch", initializer=spread)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; without inotify (its limits are per user) the poll alone does the work."""
        self._loop = loop
        try:
            self._inotify = INotify(nonblocking=True)
            loop.add_reader(self._inotify.fileno(), self._on_readable)
        except OSError as exc:
            self._inotify = None
            _log.warning(
                f"no inotify ({exc.strerror}); changes are noticed every {self._poll_ns / 1e9:g} s"
            )
        self._place_watches()
        self._sample(is_settled=True)
        self._schedule_poll()

    def stop(self) -> None:
        """End; nothing is called back afterwards."""
        if self._loop is not None and self._inotify is not None:
            self._loop.remove_reader(self._inotify.fileno())
            self._inotify.close()
        for timer in (self._timer, self._poll_timer):
            if timer is not None:
                timer.cancel()
        self._loop = self._inotify = self._timer = self._poll_timer = None
        self._watches.clear()
        self._thread.shutdown(wait=False)

    def follow(self, paths: Iterable[Path]) -> None:
        """Also notice these files, e.g. bundles; replaces what was followed before.

        Args:
            paths: absolute; the last part may be a shell pattern.
        """
        self._followed = tuple(dict.fromkeys(paths))
        # Only this half: a change of the configuration not yet reported must not become "known".
        self._known = self._known._replace(followed=fingerprint_followed(self._followed))
        self._place_watches()

    def doubt(self) -> None:
        """Somebody reads the files now, perhaps others than were seen here last.

        The next change then calls back even when it leads back to what is known: a reload may have
        read, and refused, what stood there in between.
        """
        self._is_doubtful = True

    def is_writing(self) -> bool:
        """Whether a file is open for writing now; ask after loading and before applying.

        A load that overlapped with a write may hold half a file; drop it, the close calls back.
        """
        if self._loop is not None and self._inotify is not None:
            self._read_events(self._loop)
        return self._settler.has_writers

    @property
    def signs(self) -> tuple[Callable[[], bool], Callable[[], int]]:
        """What whoever loads asks before and after it: ``is_writing`` and ``changes``."""
        return self.is_writing, self.changes

    def changes(self) -> int:
        """How often something has changed; ask before a load and after one that failed.

        What it read may be what an editor leaves between two steps; each change calls back.
        """
        if self._loop is not None and self._inotify is not None:
            self._read_events(self._loop)
        return self._settler.noted

    def _on_readable(self) -> None:
        if self._loop is not None and self._inotify is not None:
            self._read_events(self._loop)

    def _read_events(self, loop: asyncio.AbstractEventLoop) -> None:
        now_ns = time.monotonic_ns()
        is_moved = False
        for event in self._inotify.read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:
                self._settler.forget_writers()
                self._settler.changed(now_ns)
                is_moved = True
            elif event.wd in self._watches:
                is_moved |= self._judge(event, now_ns)
        if is_moved:
            self._place_watches()
        self._arm(loop, now_ns)

    def _judge(self, event: Any, now_ns: int) -> bool:
        """Tell the settler about one event; True when directories or links may have changed."""
        watch = self._watches[event.wd]
        if event.mask & _SELF_GONE:
            self._settler.changed(now_ns)
            if event.mask & flags.IGNORED:
                del self._watches[event.wd]
            return True
        path = watch.directory / event.name
        is_open = bool(event.mask & flags.MODIFY) or (
            bool(event.mask & flags.CREATE) and is_being_made(path)
        )
        if watch.config.matters(event.name):
            if is_open:
                self._settler.writing(now_ns, str(path))
            else:
                # A changed mode says nothing about who still writes.
                is_done = not event.mask & flags.ATTRIB
                self._settler.changed(now_ns, str(path) if is_done else None)
        elif not watch.followed.matters(event.name):
            return False
        elif not is_open:  # a bundle that is copied slowly holds up nobody's edit
            self._settler.changed(now_ns)
        return bool(event.mask & _STRUCTURE)

    def _place_watches(self) -> None:
        """Watch the directories that matter now, and no others."""
        if self._inotify is None:
            return
        watches: dict[int, _Watch] = {}
        for directory, place in find_places(self._main).items():
            self._add_watch(watches, directory, config=place)
        for directory, place in find_followed(self._followed).items():
            self._add_watch(watches, directory, followed=place)
        for number in self._watches.keys() - watches.keys():
            with contextlib.suppress(OSError):  # gone by itself
                self._inotify.rm_watch(number)
        self._watches = watches

    def _add_watch(
        self,
        watches: dict[int, _Watch],
        directory: Path,
        config: Place | None = None,
        followed: Place | None = None,
    ) -> None:
        try:
            number = self._inotify.add_watch(directory, _MASK)
        except OSError:
            return  # not there now; the nearest place that is there is watched for it
        watch = watches.setdefault(number, _Watch(directory))  # a directory may have two names
        for place, extra in ((watch.config, config), (watch.followed, followed)):
            if extra is not None:
                place.names |= extra.names
                place.patterns |= extra.patterns

    def _arm(self, loop: asyncio.AbstractEventLoop, now_ns: int) -> None:
        due_ns = self._settler.due_ns()
        if due_ns is None:
            return
        if self._timer is not None:
            # A timer that fires early asks again, so a burst of events costs one timer; only a
            # writer's close brings the moment forward.
            if self._timer_ns <= due_ns:
                return
            self._timer.cancel()
        self._timer_ns = due_ns
        self._timer = loop.call_later(max(0, due_ns - now_ns) / 1e9, self._on_due)

    def _on_due(self) -> None:
        self._timer = None
        if self._loop is None:
            return
        if self._inotify is not None:
            self._read_events(self._loop)  # a writer may just have come
        now_ns = time.monotonic_ns()
        if self._settler.take(now_ns):
            self._sample(is_settled=True)
        else:
            self._arm(self._loop, now_ns)

    def _schedule_poll(self) -> None:
        if self._loop is not None:
            self._poll_timer = self._loop.call_later(self._poll_ns / 1e9, self._on_poll)

    def _on_poll(self) -> None:
        self._schedule_poll()
        self._place_watches()
        if not self._is_sampling:
            self._sample(is_settled=False)

    def _sample(self, *, is_settled: bool) -> None:
        """Look at the content off the loop: a network file system may hang."""
        if self._loop is None:
            return
        if self._is_sampling:
            self._sample_again |= is_settled
            return
        self._is_sampling = True
        work = functools.partial(_look, self._main, self._followed)
        future = self._loop.run_in_executor(self._thread, work)
        future.add_done_callback(functools.partial(self._on_sample, self._followed, is_settled))

    def _on_sample(
        self, followed: tuple[Path, ...], is_settled: bool, future: asyncio.Future[_State]
    ) -> None:
        self._is_sampling = False
        if self._loop is None or future.cancelled():
            return
        if self._inotify is not None:
            self._read_events(self._loop)
        if self._sample_again or followed != self._followed:
            self._sample_again = False
            self._sample(is_settled=True)
            return
        self._compare(future.result(), is_settled=is_settled)

    def _compare(self, seen: _State, *, is_settled: bool) -> None:
        if seen == self._known and not (is_settled and self._is_doubtful):
            self._polled, self._unstable = None, 0
        elif self._settler.has_writers:
            return  # half a file; its close comes back here
        elif is_settled or seen == self._polled or self._unstable >= _UNSTABLE_POLLS:
            self._known, self._polled, self._unstable = seen, None, 0
            self._is_doubtful = False
            self._on_change()
        elif not self._settler.is_pending and self._loop is not None:
            self._polled = seen
            if seen.config != self._known.config:  # followed files wait for the next poll
                self._unstable += 1
                again = functools.partial(self._sample, is_settled=False)
                self._loop.call_later(self._settler.settle_ns / 1e9, again)


def _look(main: Path, followed: tuple[Path, ...]) -> _State:
    return _State(fingerprint(main), fingerprint_followed(followed))


def is_being_made(path: Path) -> bool:
    """A new regular file is open until its maker closes it; a link or directory is complete."""
    try:
        info = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(info.st_mode) and info.st_nlink == 1
