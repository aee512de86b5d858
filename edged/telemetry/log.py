"""How the daemon's log looks: one line a message on stderr, made for journald or for a person.

Under systemd (``JOURNAL_STREAM`` names our stderr) a line starts with its priority, ``<6>``, and
journald adds the time; otherwise time and level stand in front. Control characters in a message
are escaped, so that nothing a peer sends can forge a line; a traceback follows in lines of its
own, each marked with ``|``. What is logged is decided where it
happens; values of secrets never reach this module, because ``config/`` hands out their names only.
Source: sd-daemon(3), systemd.exec(5) on JOURNAL_STREAM.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import TextIO

from edged.telemetry.log_flood import FloodFilter

ROOT_LOGGER = "edged"
PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""From this level on, that syslog priority; below all of them it is 7, debug."""
MESSAGE_CAP_CHARS = 8192
"""A line is for reading; an error that quotes a whole payload is cut."""
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160))}
_ESCAPES.update({ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\t", 0x2028: " ", 0x2029: " "})


class LineFormatter(logging.Formatter):
    """One record, one line; a traceback adds lines that start with ``|``.

    Args:
        with_priority: start with a journald priority instead of time and level.
    """

    def __init__(self, *, with_priority: bool) -> None:
        super().__init__()
        self._with_priority = with_priority

    def format(self, record: logging.LogRecord) -> str:
        """The line or lines, without the last line break."""
        if self._with_priority:
            start = f"<{priority(record.levelno)}>"
        else:
            when = self.formatTime(record, "%H:%M:%S")
            start = f"{when}.{int(record.msecs):03d} {record.levelname.lower():7} "
        room = record.name.removeprefix(f"{ROOT_LOGGER}.")
        lines = [f"{start}{room}: {plain(record.getMessage())}"]
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            lines += [f"{start}| {plain(line)}" for line in trace.splitlines()]
        return "\n".join(lines)


def plain(text: str) -> str:
    """The text as one line without control characters, cut at MESSAGE_CAP_CHARS."""
    if len(text) > MESSAGE_CAP_CHARS:
        text = f"{text[:MESSAGE_CAP_CHARS]}… ({len(text)} characters)"
    return text.translate(_ESCAPES)


def priority(level: int) -> int:
    """The syslog priority of a logging level."""
    return next((number for least, number in PRIORITIES if level >= least), 7)


def is_journal(environment: Mapping[str, str], descriptor: int) -> bool:
    """Whether the descriptor is the stream that journald said it connected (device:inode)."""
    named = environment.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


def setup(level: str, *, stream: TextIO | None = None) -> None:
    """Send the log of all ``edged.*`` loggers to stderr. Calling it again changes the level.

    Args:
        level: debug, info, warning or error.
        stream: where to write; stderr when None.
    """
    target = sys.stderr if stream is None else stream
    logger = logging.getLogger(ROOT_LOGGER)
    logger.setLevel(level.upper())
    logger.propagate = False
    try:
        with_priority = is_journal(os.environ, target.fileno())
    except (OSError, ValueError):  # a stream without a descriptor
        with_priority = False
    handler = logging.StreamHandler(target)
    handler.setFormatter(LineFormatter(with_priority=with_priority))
    handler.addFilter(FloodFilter())
    for old in list(logger.handlers):
        logger.removeHandler(old)
    logger.addHandler(handler)
