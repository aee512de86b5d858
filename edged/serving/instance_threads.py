"""The threads that a release's runs happen on."""

from __future__ import annotations

import functools
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from edged.serving.scheduling.hand import Hand
from edged.system.cores import spread
from edged.system.timeslice import favour

log = logging.getLogger("edged.serving")

Job = Callable[[], Callable[[], None] | None]
Mailbox: TypeAlias = "queue.SimpleQueue[Job | None]"


class InstanceThreads:
    """The threads that a release's runs happen on; each is started when it is first needed.

    Runtimes release the interpreter lock while they run, so the event loop stays free. The thread
    that ran last runs next: what a run used is in its core's caches, and what a runtime keeps for
    each thread is there.

    Args:
        name: of the first one.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.hand = Hand()
        """Of the device: what a thread lets begin when a run of its has ended."""
        self._guard = threading.Lock()
        self._jobs: deque[Job | None] = deque()
        """Those for which no thread was idle."""
        self._idle: list[Mailbox] = []
        """Of the threads that wait for a job; the last one has waited for the shortest time."""
        self._threads: list[threading.Thread] = []
        self._last_job: Job | None = None
        self._is_urgent = False
        self._is_closed = False
        self._left = 0
        """Threads that have not ended since ``close``."""

    def submit(self, job: Job, wanted: int) -> None:
        """Run ``job`` on whichever thread is free first, of ``wanted`` ones.

        Args:
            job: must not raise; when it was a run, returns what tells of its end.
            wanted: threads; those that are missing are started.
        """
        if len(self._threads) < wanted:
            self._start()
        self._give(job)

    def later(self, job: Job, wanted: int) -> Callable[[], None]:
        """As ``submit``, when what this returns is called: once, on any thread."""
        if len(self._threads) < wanted:
            self._start()
        return functools.partial(self._give, job)

    def favour(self, *, is_urgent: bool) -> None:
        """Say whether their runs go before those of other releases, on the cores too."""
        if is_urgent != self._is_urgent and not self._is_closed:
            self._is_urgent = is_urgent
            for thread in self._threads:
                _favour(thread, is_urgent=is_urgent)

    def close(self, last_job: Job | None) -> None:
        """End them after their last jobs, without waiting; whichever ends last does ``last_job``.

        So it may take away what jobs use, though one of them is still under way.
        """
        if self._is_closed:
            return
        self._is_closed = True
        if last_job is not None and not self._threads:
            self._start()
        self._last_job, self._left = last_job, len(self._threads)
        for _ in self._threads:
            self._give(None)

    def _give(self, job: Job | None) -> None:
        with self._guard:
            if not self._idle:
                self._jobs.append(job)
                return
            mailbox = self._idle.pop()
        mailbox.put(job)

    def _next(self, mailbox: Mailbox) -> Job | None:
        with self._guard:
            if self._jobs:
                return self._jobs.popleft()
            self._idle.append(mailbox)
        return mailbox.get()

    def _start(self) -> None:
        number = len(self._threads) + 1
        name = self._name if number == 1 else f"{self._name}-{number}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        thread.start()
        if self._is_urgent:
            _favour(thread, is_urgent=True)
        self._threads.append(thread)

    def _work(self) -> None:
        spread()
        mailbox: Mailbox = queue.SimpleQueue()
        while True:
            job = self._next(mailbox)
            if job is None:
                break
            self._do(job)
            job = None  # with what it ran on, which may be memory of a GPU
        with self._guard:
            self._left -= 1
            is_last = self._left == 0
        if is_last and self._last_job is not None:
            self._do(self._last_job)
            self._last_job = None

    def _do(self, job: Job) -> None:
        try:
            tell_end = job()
            if tell_end is not None:
                # First: the loop knows of it when it hears of the end.
                self.hand.begin()
                tell_end()
        except Exception:
            log.exception("a job of %s raised", self._name)


def _favour(thread: threading.Thread, *, is_urgent: bool) -> None:
    if thread.native_id is not None:
        favour(thread.native_id, is_urgent=is_urgent)
