"""Processes that host several models each: one a device, and one for whoever is under suspicion.

The parent's side of ``host.py``. A model in one has a socket of its own, as in a worker of
its own, and is spoken to in the same way (``session.py``): per run nothing happens here.
Whose doing a death was is ``blame.py``'s decision; this room looks, and ends the process when its
last model has gone.

Used from the loader's thread, where models enter, and from the event loop.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from edged.errors import LoadError
from edged.workers.blame import Blame, Guest, Guilt, Suspicion, crashed_guest, guilt
from edged.workers.process import Death, Place, WorkerProcess, socket_pair

log = logging.getLogger("edged.serving")

_MODULE = "edged.workers.host"
_DYING_S = 5.0
"""A process that has closed its door is on its way out; its large memory takes the kernel a
moment."""
_GRACE_S = 0.05
"""Between the end of one of its sockets and that of its door, if both end."""
_REPORT_BYTES = 1 << 20
"""Far more than the lines of thousands of loads and the stacks of a hundred threads."""
_SHOWN_LINES = 12


@dataclass(frozen=True, slots=True)
class Who:
    """Whose model enters.

    Args:
        home: whose process it shares, e.g. ``device cpu``.
        model: its name, for messages.
        digest: of the release.
    """

    home: str
    model: str
    digest: str


class Lodger:
    """One model's place in a shared process; what a ``WorkerProcess`` is to a model alone.

    Args:
        host: of the place.
        number: of the place.
        who: lives there.
        memory_bytes: what it brings to the cap of the process; 0 for no cap.
        is_running: whether something of it is under way.
        sock: our end of its socket.
    """

    def __init__(
        self,
        host: SharedWorker,
        number: int,
        who: Who,
        *,
        memory_bytes: int,
        is_running: Callable[[], bool],
        sock: socket.socket,
    ) -> None:
        self.number = number
        self.who = who
        self.socket = sock
        self.memory_bytes = memory_bytes
        self._host = host
        self._is_running = is_running

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._host.pid

    @property
    def cap_bytes(self) -> int:
        """What the process may take with all that are in it."""
        return self._host.cap_bytes()

    def settle(self) -> None:
        """The model is loaded: the process has the priority of one that serves."""
        self._host.settle()

    def end(self, wait_s: float = 0.0) -> None:
        """Leave; the last one takes the process along. May be called twice."""
        self._host.leave(self, wait_s)
        self.socket.close()

    def death(self) -> Death:
        """How the process ended, or this model's part of it; asked when the socket was closed."""
        return self._host.death(self)

    def widen(self) -> socket.socket:
        """One more way to the model, which is loaded: our end.

        Raises:
            OSError: the process is gone.
        """
        return self._host.widen(self)

    def condemn(self, words: str) -> Death:
        """End the process, for what this model did: nothing less stops a run."""
        return self._host.condemn(self, words)

    def seen(self) -> Guest:
        """What blaming may know."""
        return Guest(self.number, self._is_running())


Enter = Callable[[int, int, Callable[[], bool]], Place]
"""Takes a place in a process that is there: told the descriptor of the memory file, what the model
brings to the cap of the process, and whom to ask whether it is running."""


class SharedWorker:
    """One process from its start to its end.

    Args:
        name: whose process it is, for people.
        most_bytes: private memory that it may have whatever its models bring.
        on_death: told once whose doing its end was; not when it ends as it should.

    Raises:
        LoadError: it cannot be started.
    """

    def __init__(
        self, name: str, most_bytes: int, on_death: Callable[[SharedWorker, Guilt], None]
    ) -> None:
        self.name = name
        self._most_bytes = most_bytes
        self._on_death = on_death
        self._lock = threading.RLock()
        self._numbers = 0
        self._guilt: Guilt | None = None
        self._how = Death("was ended")
        self._is_over = False
        self._left: list[int] = []
        self.lodgers: dict[int, Lodger] = {}
        try:
            self._report = os.memfd_create("edged-report", os.MFD_CLOEXEC)
        except OSError as exc:
            raise LoadError(f"a worker process cannot be started: {exc.strerror}") from exc
        try:
            self._process = WorkerProcess(self._report, 0, _MODULE, socket.SOCK_SEQPACKET)
        except BaseException:
            os.close(self._report)
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def settle(self) -> None:
        """See ``WorkerProcess.settle``."""
        self._process.settle()

    def cap_bytes(self) -> int:
        """What its models bring together, within what it may have; 0 for no cap."""
        with self._lock:
            each = [one.memory_bytes for one in self.lodgers.values()]
        if not all(each):
            return self._most_bytes
        return max(*each, min(sum(each), self._most_bytes or sum(each)), 0)

    def enter(
        self, who: Who, file: int, memory_bytes: int, is_running: Callable[[], bool]
    ) -> Lodger | None:
        """Give a model a place; None when the process is over.

        Args:
            who: it is.
            file: descriptor of its memory file.
            memory_bytes: what it brings to the cap of the process.
            is_running: whether something of it is under way.
        """
        with self._lock:
            if self._is_dying():
                if not self.lodgers:
                    self._end()  # nobody is there to be told
                return None
            self._numbers += 1
            number = self._numbers
            try:
                ours = self._send_in(b"enter %d" % number, file)
            except OSError:
                return None
            lodger = Lodger(
                self, number, who, memory_bytes=memory_bytes, is_running=is_running, sock=ours
            )
            self.lodgers[number] = lodger
            return lodger

    def widen(self, lodger: Lodger) -> socket.socket:
        """Make one more way to a model, and return our end of it; raises OSError."""
        with self._lock:
            return self._send_in(b"join %d" % lodger.number)

    def _send_in(self, words: bytes, *files: int) -> socket.socket:
        ours, theirs = socket_pair()
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            self._tell_left()
            socket.send_fds(self._process.socket, [words], [theirs.fileno(), *files])
            undo.pop_all()
        return ours

    def leave(self, lodger: Lodger, wait_s: float = 0.0) -> None:
        """Give up a place."""
        with self._lock:
            if self.lodgers.pop(lodger.number, None) is None:
                return
            self._left.append(lodger.number)
            if not self.lodgers:
                self._end(wait_s)
            elif not self._is_over:
                with contextlib.suppress(OSError):
                    self._tell_left()

    def death(self, lodger: Lodger) -> Death:
        """How it ended, as one of its models is told."""
        with self._lock:
            if self._guilt is None:
                if not self._is_dying(_GRACE_S):
                    # The thread of this one alone is gone.
                    return Death("closed its connection and was ended")
                report = self._read_report()
                how = self._process.death(_DYING_S)
                guests = [one.seen() for one in self.lodgers.values()]
                self._conclude(guilt(guests, crashed_guest(report)), how, report)
            return self._told(lodger)

    def condemn(self, lodger: Lodger, words: str) -> Death:
        """End it for what one of its models did."""
        with self._lock:
            if self._guilt is None:
                self._conclude(Guilt(lodger.number), Death(words), b"")
            return self._told(lodger)

    def _told(self, lodger: Lodger) -> Death:
        assert self._guilt is not None
        blame = self._guilt.of(lodger.number)
        if blame is Blame.OWN:
            return Death(self._how.words, self._how.crash)
        return Death(f"{self._how.words}{self._others}", "", blame)

    def _conclude(self, found: Guilt, how: Death, report: bytes) -> None:
        self._guilt, self._how = found, how
        names = {one.number: one.who.model for one in self.lodgers.values()}
        whose = [found.culprit] if found.culprit is not None else sorted(found.suspects)
        words = " or ".join(f'"{names[number]}"' for number in whose)
        self._others = f" while it ran model {words}" if words else " while none of its models ran"
        log.error(
            "the worker process of %s (%d) %s%s; it hosted %s",
            self.name,
            self.pid,
            how.words,
            self._others,
            ", ".join(sorted(set(names.values()))),
        )
        _show(report)
        self._on_death(self, found)
        self._end()

    def _end(self, wait_s: float = 0.0) -> None:
        if not self._is_over:
            self._is_over = True
            self._process.end(wait_s)
            os.close(self._report)

    def _is_dying(self, wait_s: float = 0.0) -> bool:
        """Whether it has closed its door: the kernel does that first of all its sockets."""
        if self._is_over:
            return True
        poll = select.poll()
        poll.register(self._process.socket, select.POLLIN)  # it never says anything
        return bool(poll.poll(wait_s * 1000))

    def _tell_left(self) -> None:
        while self._left:
            self._process.socket.send(b"leave %d" % self._left[0])
            del self._left[0]

    def _read_report(self) -> bytes:
        try:
            return os.pread(self._report, _REPORT_BYTES, 0)
        except OSError:
            return b""


class SharedWorkers:
    """All such processes of the daemon.

    Args:
        most_bytes: private memory that each may have whatever its models bring; 0 for no cap.
    """

    def __init__(self, most_bytes: int = 0) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._homes: dict[str, SharedWorker] = {}
        self._suspicion = Suspicion()
        self.deaths: dict[str, int] = {}
        """How often each died."""

    def enter(
        self, who: Who, file: int, memory_bytes: int, is_running: Callable[[], bool]
    ) -> Lodger:
        """Give a model a place in its device's process, which is started if it is not there.

        Raises:
            LoadError: it cannot be started.
        """
        with self._lock:
            is_suspect = self._suspicion.is_on(who.digest)
        name = f"model {who.model}" if is_suspect else who.home
        key = f"{who.home} {who.digest}" if is_suspect else who.home
        for _ in range(2):
            if key not in self._homes:
                self._homes[key] = SharedWorker(name, self._most_bytes, self._died)
            lodger = self._homes[key].enter(who, file, memory_bytes, is_running)
            if lodger is not None:
                return lodger
            del self._homes[key]
        raise LoadError(f"the worker process of {name} ended as it was started")

    def _died(self, home: SharedWorker, found: Guilt) -> None:
        lodgers = home.lodgers
        with self._lock:
            for name in {one.who.home for one in lodgers.values()}:
                self.deaths[name] = self.deaths.get(name, 0) + 1
            if found.culprit is not None:
                self._suspicion.proven(lodgers[found.culprit].who.digest)
            self._suspicion.suspect(frozenset(lodgers[one].who.digest for one in found.suspects))


def _show(report: bytes) -> None:
    """Where it crashed, as far as it could say."""
    lines = report.decode("utf-8", "replace").splitlines()
    told = [line[:200] for line in lines][:_SHOWN_LINES]
    if told:
        log.error("it left: %s", " | ".join(told))
