"""A step that waits for a thread: for no longer than its request is of use to anybody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from edged.errors import DeadlineExceededError
from edged.serving.workshop import Errand

NO_THREAD = "the deadline passed while waiting for a thread"


class Awaited:
    """One errand of a request; used from the event loop only.

    Args:
        errand: what was put to the threads.
        came: is told of its result; at the deadline that it did not begin in time.
        deadline_ns: of the request.
    """

    __slots__ = ("_came", "_errand", "_timer")

    def __init__(
        self, errand: Errand, came: Callable[[Any], None], deadline_ns: int | None
    ) -> None:
        self._errand, self._came = errand, came
        self._timer: asyncio.TimerHandle | None = None
        if deadline_ns is not None:
            after_s = max(0, deadline_ns - time.monotonic_ns()) / 1e9
            self._timer = asyncio.get_running_loop().call_later(after_s, self._due)

    def _due(self) -> None:
        if self._errand.withdraw():
            self._came(DeadlineExceededError(NO_THREAD))

    def withdraw(self) -> bool:
        """Whether it has not begun, and never will; then nobody is told of it."""
        if not self._errand.withdraw():
            return False
        self.cancel()
        return True

    def cancel(self) -> None:
        """Look at the deadline no more."""
        if self._timer is not None:
            self._timer.cancel()
