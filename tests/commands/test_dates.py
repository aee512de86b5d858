"""A date for a terminal."""

from __future__ import annotations

import math

import pytest

from edged.commands.dates import date_words


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (0.0, "1970-01-01 00:00:00 UTC"),
        (1_000_000_000.9, "2001-09-09 01:46:40 UTC"),
        (math.nan, "an unknown date"),
        (1e300, "an unknown date"),
    ],
)
def test_words(at: float, words: str):
    assert date_words(at) == words
