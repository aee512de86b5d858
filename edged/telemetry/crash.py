"""Whether the last run of the daemon died by its own doing, and where.

A crash (SIGSEGV, SIGFPE, SIGABRT by the watchdog and their kind) leaves a traceback in a file that
was opened beforehand; a SIGKILL or a power cut from outside leaves none. The next start reads it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
from pathlib import Path

log = logging.getLogger("edged.daemon")

_TEXT_CAP_BYTES = 64 << 10
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class CrashMark:
    """The file of one state directory.

    Args:
        directory: where ``crash.txt`` is, and ``crash.last.txt`` after it was read.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "crash.txt"
        self._fd = -1

    def peek(self) -> str:
        """The last run's traceback; empty when it did not crash."""
        try:
            with self._path.open("rb") as file:
                return file.read(_TEXT_CAP_BYTES).decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def take(self) -> str:
        """The same, once."""
        text = self.peek()
        if text:
            with contextlib.suppress(OSError):
                self._path.replace(self._path.with_name("crash.last.txt"))
        return text

    def arm(self) -> None:
        """Let a crash from now on leave its traceback."""
        try:
            self._fd = os.open(self._path, _FLAGS, 0o600)
        except OSError as exc:
            log.warning("a crash would leave no trace: %s", exc.strerror)
            return
        faulthandler.enable(self._fd)

    def disarm(self) -> None:
        """The end is in good order."""
        if self._fd >= 0:
            faulthandler.disable()
            os.close(self._fd)
            self._fd = -1


def headline(text: str) -> str:
    """The first line of a traceback, for a status page."""
    return text.partition("\n")[0].removeprefix("Fatal Python error: ")[:200]
