from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from edged.telemetry.log import MESSAGE_CAP_CHARS, is_journal, plain, priority, setup


@pytest.fixture(autouse=True)
def _own_logger() -> Iterator[None]:
    """Give the process its logger back as it was."""
    logger = logging.getLogger("edged")
    before = (logger.level, logger.propagate, list(logger.handlers))
    yield
    logger.setLevel(before[0])
    logger.propagate = before[1]
    logger.handlers[:] = before[2]


@pytest.mark.parametrize(
    ("level", "number"),
    [("CRITICAL", 3), ("ERROR", 3), ("WARNING", 4), ("INFO", 6), ("DEBUG", 7)],
)
def test_priority(level: str, number: int):
    assert priority(getattr(logging, level)) == number


def test_plain_text_has_time_level_and_room():
    stream = io.StringIO()
    setup("info", stream=stream)
    logging.getLogger("edged.store").warning("bundle %s is gone", "a.edgb")
    line = stream.getvalue()
    assert line.endswith(" warning store: bundle a.edgb is gone\n")
    assert line[2] == line[5] == ":"


def test_level_and_calling_again():
    first, second = io.StringIO(), io.StringIO()
    setup("error", stream=first)
    logging.getLogger("edged.mqtt").info("unseen")
    setup("debug", stream=second)
    logging.getLogger("edged.mqtt").debug("seen")
    assert first.getvalue() == ""
    assert second.getvalue().count("seen") == 1


def test_foreign_text_cannot_forge_a_line_or_colour_the_terminal():
    assert plain("a\n<0>forged\r\x1b[31m\x9b\u2028b") == "a\\n<0>forged\\r\\x1b[31m\\x9b b"


def test_long_message_is_cut():
    assert plain("x" * (MESSAGE_CAP_CHARS + 5)).endswith(f"x… ({MESSAGE_CAP_CHARS + 5} characters)")


def test_traceback_lines_are_marked():
    stream = io.StringIO()
    setup("info", stream=stream)
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logging.getLogger("edged.serving").exception("failed")
    head, *trace = stream.getvalue().splitlines()
    assert head.endswith("serving: failed")
    assert trace
    assert all("error   | " in line for line in trace)


def test_is_journal(tmp_path):
    with (tmp_path / "log").open("w") as file:
        status = os.fstat(file.fileno())
        named = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert is_journal(named, file.fileno())
        assert not is_journal({"JOURNAL_STREAM": "1:1"}, file.fileno())
        assert not is_journal({}, file.fileno())
    assert not is_journal(named, -1)


def test_under_journald_lines_start_with_their_priority(tmp_path):
    code = (
        "import os, sys, logging\n"
        "s = os.fstat(2); os.environ['JOURNAL_STREAM'] = f'{s.st_dev}:{s.st_ino}'\n"
        "from edged.telemetry.log import setup\n"
        "setup('info'); logging.getLogger('edged.mqtt').error('gone')\n"
    )
    with (tmp_path / "stderr").open("w") as stderr:
        subprocess.run([sys.executable, "-c", code], check=True, stderr=stderr, timeout=60)
    assert (tmp_path / "stderr").read_text() == "<3>mqtt: gone\n"
