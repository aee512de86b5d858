"""What is known of rollouts on its way to disk: ends at once, figures now and then.

Decides when to write. Used from the event loop only; files are written on a thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Protocol

from edged.rollout.ledger import Entry, Ledger
from edged.rollout.tally import Tally

_SAVE_NS = 10_000_000_000
"""Figures that a power cut may lose; a flash disk lasts longer for it."""


class Health(Protocol):
    """What is not as it should be."""

    def degrade(self, key: str, reason: str) -> None:
        """Note it."""
        ...

    def restore(self, key: str) -> None:
        """It is as it should be again."""
        ...


class Keeping:
    """See above.

    Args:
        ledger: what is written; read already.
        health: told when it cannot be.
    """

    def __init__(self, ledger: Ledger, health: Health) -> None:
        self._ledger, self._health = ledger, health
        self._task: asyncio.Task[None] | None = None
        self._dirty: set[str] = set()
        self._saved: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._latest: dict[str, int] = {}
        """How often each was to be written: a thread may come to it when later words are there."""

    def look(self, model: str, tally: Tally, now_ns: int) -> None:
        """Write a model's figures where they have changed and it is time again."""
        seen = sum(side.answers for side in tally.sides.values()) + tally.compared
        saved_ns, saved = self._saved.get(model, (0, -1))
        if seen != saved and (now_ns - saved_ns >= _SAVE_NS or not saved_ns):
            self._saved[model] = (now_ns, seen)
            self._write_soon(model)

    def soon(self, model: str, entry: Entry) -> None:
        """Write what was decided, on a thread."""
        # Not looked at yet, it would be the one before that is saved.
        self._ledger.begin(model, entry, time.time())
        self._write_soon(model)

    def now(self, model: str, entry: Entry) -> None:
        """Write it before this returns."""
        self._ledger.begin(model, entry, time.time())
        try:
            self._write(model, self._ledger.snapshot(model), self._next(model))
        except OSError as exc:
            self._failed(exc)

    async def done(self) -> None:
        """Wait until what was to be written is, or the health says that it is not."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    def _write_soon(self, model: str) -> None:
        self._dirty.add(model)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        while self._dirty:
            model = self._dirty.pop()
            data, number = self._ledger.snapshot(model), self._next(model)
            try:
                await asyncio.to_thread(self._write, model, data, number)
            except OSError as exc:
                self._failed(exc)
            else:
                self._health.restore("rollouts")

    def _next(self, model: str) -> int:
        self._latest[model] = number = self._latest.get(model, 0) + 1
        return number

    def _write(self, model: str, data: bytes, number: int) -> None:
        """Write what was said last, on any thread, one at a time; raises OSError."""
        with self._lock:
            if number == self._latest[model]:
                self._ledger.save(model, data)

    def _failed(self, exc: OSError) -> None:
        self._health.degrade(
            "rollouts", f"how rollouts go could not be noted on disk: {exc.strerror}"
        )
