"""A kind of line that comes too often is left out, counted, and said so; others are not."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator

import pytest

from edged.telemetry import log as logging_setup
from edged.telemetry.log_flood import MOST_KINDS, FloodFilter


class Log:
    """A filter with a clock, and what passed it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.filter = FloodFilter(lambda: self.now, burst=3, every_s=5.0)

    def say(self, text: str = "a client of %s broke", *args: object, level: int = 30) -> str | None:
        """The line as logged, or None."""
        record = logging.LogRecord("edged.uds", level, "", 0, text, args, None)
        return record.getMessage() if self.filter.filter(record) else None


def test_a_burst_passes_and_the_rest_is_counted() -> None:
    log = Log()
    assert [log.say("%d of many", n) for n in range(6)] == [
        "0 of many", "1 of many", "2 of many", None, None, None,
    ]  # fmt: skip
    log.now = 4.9
    assert log.say("%d of many", 6) is None
    log.now = 5.1
    assert log.say("%d of many", 7) == "7 of many (4 more like it were left out)"
    assert log.say("%d of many", 8) is None
    log.now = 60.0
    assert log.say("%d of many", 9) == "9 of many (1 more like it were left out)"
    assert log.say("%d of many", 10) == "10 of many"


def test_kinds_have_nothing_to_do_with_each_other() -> None:
    log = Log()
    while log.say():
        pass
    assert log.say("something else")
    assert log.say(level=logging.ERROR)
    assert log.say() is None


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_below_a_warning_all_passes(level: int) -> None:
    log = Log()
    assert all(log.say(level=level) for _ in range(100))


@pytest.mark.parametrize("rested_s", [0.0, 3600.0])
def test_what_is_remembered_is_bounded(rested_s: float) -> None:
    log = Log()
    for number in range(3 * MOST_KINDS):
        log.now += rested_s
        assert log.say(f"made of {number}")
        assert len(log.filter._kinds) <= MOST_KINDS


def test_a_percent_sign_in_a_line_that_is_said_again() -> None:
    log = Log()
    for _ in range(4):
        log.say("%s", "100 %d")
    log.now = 60.0
    assert log.say("%s", "100 %d") == "100 %d (1 more like it were left out)"


@pytest.fixture
def _as_before() -> Iterator[None]:
    logger = logging.getLogger(logging_setup.ROOT_LOGGER)
    before = logger.level, list(logger.handlers), logger.propagate
    yield
    logger.setLevel(before[0])
    logger.handlers[:], logger.propagate = before[1:]


@pytest.mark.hostile("B15 clients that are killed in mid-request")
@pytest.mark.usefixtures("_as_before")
def test_the_daemons_log_has_it() -> None:
    stream = io.StringIO()
    logging_setup.setup("info", stream=stream)
    for number in range(10_000):
        logging.getLogger("edged.http").warning("closing a connection of uds:%d", number)
    lines = stream.getvalue().splitlines()
    assert 200 <= len(lines) < 1000
    assert re.search(r"uds:0$", lines[0])
