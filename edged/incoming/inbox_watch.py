"""The inbox in the daemon: looked into when something happens there, and now and then.

Decides when to look; what a look does is ``inbox.py``, on a thread. inotify is the accelerator, a
look every so often the guarantee.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inotify_simple import INotify, flags

from edged.config.access_check import user_number
from edged.config.inbox import InboxConfig
from edged.config.load import Snapshot
from edged.config.watch import is_being_made
from edged.errors import ApplyError, EdgedError
from edged.generation.record import load_or_last_good
from edged.generation.trusted import apply_trust
from edged.incoming.inbox import Inbox
from edged.incoming.installing import install
from edged.store.trust_state import TrustLostError
from edged.telemetry.health import Health

log = logging.getLogger("edged.inbox")

_IDLE_S = 30.0
_WAITING_S = 1.0
"""While something is being copied, or may be."""
_FIRST_RETRY_S = 60.0
_LAST_RETRY_S = 3600.0
"""What has to wait for room: a verification of gigabytes is not repeated without end."""
_MASK = (
    flags.MODIFY | flags.CLOSE_WRITE | flags.CREATE | flags.DELETE | flags.MOVED_FROM
    | flags.MOVED_TO | flags.ONLYDIR
)  # fmt: skip


class InboxWatch:
    """Looks into the folder that the configuration names.

    Args:
        config_path: edged.yaml or its directory.
        state_dir: of the device.
        health: told when files have to wait.
        on_installed: called on the loop when something was taken in.
    """

    def __init__(
        self, config_path: Path, state_dir: Path, health: Health, on_installed: Callable[[], None]
    ) -> None:
        self._config_path, self._state_dir = config_path, state_dir
        self._health, self._on_installed = health, on_installed
        self._section: tuple[Path, InboxConfig] | None = None
        self._inbox: Inbox | None = None
        self._inotify: Any = None
        self._busy: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._retry_s = _FIRST_RETRY_S
        self._retry_at = 0.0

    def follow(self, snapshot: Snapshot) -> None:
        """Go by a configuration; also called when it is the same as before."""
        inbox = snapshot.config.inbox
        section = None if inbox is None else (snapshot.resolve(inbox.folder), inbox)
        if section == self._section:
            self._retry_at = 0.0  # whatever was in the way may be gone
            if self._inbox is not None:
                self.look()
            return
        self.stop()
        self._section = section
        self._health.restore("inbox")
        if section is None:
            return
        folder, words = section
        users = {user_number(name) for name in words.users}
        self._inbox = Inbox(
            folder, {one for one in users if one is not None}, int(words.quiet),
            self._install, self._apply,
        )  # fmt: skip
        self._retry_at = 0.0
        self._listen(folder)
        self.look(first=True)

    def stop(self) -> None:
        """Look no more; what is being verified is tried again by the next daemon."""
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fileno())
            self._inotify.close()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._inotify = self._timer = self._task = self._inbox = self._section = None
        self._busy.clear()

    def as_dict(self) -> dict[str, Any] | None:
        """For the status; None without an inbox."""
        if self._inbox is None:
            return None
        tally = self._inbox.tally
        return {
            "folder": str(self._inbox.folder),
            "installed": tally.installed,
            "refused": tally.refused,
            "waiting": tally.waiting,
            "last": tally.last,
        }

    def look(self, *, first: bool = False) -> None:
        """Look now; while a look runs, once more after it."""
        if self._task is not None and not self._task.done():
            self._again = True
            return
        if self._inbox is not None:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(self._inbox, is_first=first))

    async def _run(self, inbox: Inbox, *, is_first: bool) -> None:
        if is_first:
            self._tell(inbox, await self._try(inbox.start))
        self._again = True
        while self._again:
            self._again = False
            retry = time.monotonic() >= self._retry_at
            before = inbox.tally.installed
            work = functools.partial(
                inbox.look, time.monotonic_ns(), frozenset(self._busy), retry=retry
            )
            problem = await self._try(work)
            self._plan(retry=retry, is_kept=bool(inbox.tally.problem or problem))
            self._tell(inbox, problem)
            if inbox.tally.installed > before:
                self._on_installed()
        delay_s = _WAITING_S if inbox.tally.waiting and not inbox.tally.problem else _IDLE_S
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_s, self.look)

    async def _try(self, work: Callable[[], Any]) -> str:
        """Do something on a thread; returns what was wrong with the folder."""
        try:
            await asyncio.to_thread(work)
        except EdgedError as exc:
            return exc.message
        except Exception as exc:
            log.exception("the inbox met something unexpected")
            return f"{type(exc).__name__}: {exc}; see the log"
        return ""

    def _plan(self, *, retry: bool, is_kept: bool) -> None:
        if not is_kept:
            self._retry_s, self._retry_at = _FIRST_RETRY_S, 0.0
        elif retry:
            self._retry_at = time.monotonic() + self._retry_s
            self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)

    def _tell(self, inbox: Inbox, problem: str) -> None:
        if problem := problem or inbox.tally.problem:
            self._health.degrade("inbox", problem)
        else:
            self._health.restore("inbox")

    def _install(self, path: Path) -> str:
        return install(self._config_path, path, state_dir=self._state_dir)

    def _apply(self, path: Path) -> str:
        try:
            snapshot = load_or_last_good(self._config_path, self._state_dir)
            return apply_trust(snapshot, path, self._state_dir)
        except TrustLostError as exc:
            raise ApplyError(exc.message) from exc  # no fault of the document
        except OSError as exc:
            raise ApplyError(f"it cannot be kept: {exc.strerror}") from exc

    def _listen(self, folder: Path) -> None:
        """Without inotify (its limits are per user) the looks alone do the work."""
        try:
            self._inotify = INotify(nonblocking=True)
            self._inotify.add_watch(folder, _MASK)
        except OSError as exc:
            log.warning(
                "no inotify on the inbox (%s); it is looked into now and then", exc.strerror
            )
            if self._inotify is not None:
                self._inotify.close()
            self._inotify = None
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(self._inotify.fileno(), self._on_readable, folder)

    def _on_readable(self, folder: Path) -> None:
        for event in self._inotify.read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:
                self._busy.clear()
            elif event.mask & flags.MODIFY or (
                event.mask & flags.CREATE and is_being_made(folder / event.name)
            ):
                self._busy.add(event.name)
                continue
            else:
                self._busy.discard(event.name)
            self.look()
