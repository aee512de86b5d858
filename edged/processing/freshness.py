"""Requests that say when they were made, and are too old.

Decides by a field of the document and this machine's clock, which must be right: a queue at the
broker, an outage or a device's own memory may deliver hours later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from edged.errors import DecodeError, StaleError
from edged.processing.columns import Parse, follow
from edged.processing.words import ABSENT

_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_SHOWN = 64


def fresh(
    parse: Parse, field: str, unit: str, within_s: float, now_s: Callable[[], float] = time.time
) -> Parse:
    """A parser that refuses documents by their age; of a list of rows the oldest counts.

    Args:
        parse: reads the document.
        field: path of the time.
        unit: ``s``, ``ms``, ``us``, ``ns`` since 1970, or ``iso`` for text as RFC 3339 has it.
        within_s: the greatest age, seconds; also how far it may lie ahead of our clock.
        now_s: the clock, seconds since 1970.
    """
    steps = tuple(field.split("."))

    def parse_fresh(payload: bytes) -> Any:
        document = parse(payload)
        rows = document if isinstance(document, list) else [document]
        for number, row in enumerate(rows):
            where = f'row {number}, field "{field}"'
            value = row.get(field, ABSENT) if isinstance(row, dict) else ABSENT
            if value is ABSENT:
                value = follow(row, steps)
            age_s = now_s() - _seconds(value, unit, where)
            if age_s > within_s:
                raise StaleError(f"{where}: it is {age_s:.3g} s old; the limit is {within_s:g} s")
            if age_s < -within_s:
                raise DecodeError(
                    f"{where}: it lies {-age_s:.3g} s ahead; the sender's clock or ours is wrong"
                )
        return document

    return parse_fresh


def _seconds(value: Any, unit: str, where: str) -> float:
    if value is ABSENT or value is None:
        raise DecodeError(f"{where}: is missing, and says when the request was made")
    if unit == "iso":
        return _from_text(value, where)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DecodeError(f"{where}: expected a number, the {unit} since 1970")
    try:
        return value / _UNITS[unit]
    except OverflowError as exc:
        raise DecodeError(f"{where}: is no time that can be") from exc


def _from_text(value: Any, where: str) -> float:
    text = value[:_SHOWN] if isinstance(value, str) else ""
    try:
        # Python 3.10 reads no Z.
        found = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
        if found.tzinfo is None:
            found = found.replace(tzinfo=timezone.utc)
        return found.timestamp()
    except (ValueError, OverflowError) as exc:
        raise DecodeError(f"{where}: expected a time like 2026-01-31T12:00:00.5Z") from exc
