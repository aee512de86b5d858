"""A date for a terminal."""

from __future__ import annotations

import datetime as dt


def date_words(at: float) -> str:
    """Seconds since 1970 as a date, to the second; of a figure that is none, that it is unknown."""
    try:
        return f"{dt.datetime.fromtimestamp(at, tz=dt.timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return "an unknown date"
