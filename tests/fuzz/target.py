"""One target for each parser: bytes in, our own errors out, and nothing else ever.

A target raises only when the parser broke its promise: another exception than an EdgedError, or an
input that was accepted and does not mean to others what it means to us. ``seeds`` makes valid
inputs, so that a mutation gets past the first check.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One parser under test.

    Args:
        run: feeds it one input; whatever it raises is a finding.
        seeds: valid inputs, made anew each time.
        max_bytes: longest input worth trying.
    """

    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    max_bytes: int = 4096


def sorted_json(data: bytes) -> bytes:
    """The same document in the one form that is read, so that a change gets past that check."""
    try:
        return json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode("ascii")
    except (ValueError, RecursionError):
        return b""
