"""A time on the command line."""

from __future__ import annotations

import argparse
import math


def seconds(text: str) -> float:
    """So many seconds; for ``type=`` of an option."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e9:  # nan is none of both
        raise argparse.ArgumentTypeError(f'"{text[:40]}": expected a number of seconds, such as 30')
    return value
