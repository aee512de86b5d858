"""A mutation loop of our own, for machines without a coverage-guided fuzzer; repeats exactly."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.fuzz.targets import Target

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)


@dataclass
class Outcome:
    """What came of a number of inputs.

    Args:
        runs: how many were tried.
        slowest_s: the longest that one took.
        finding: the first input at which the target raised something, and what; or None.
    """

    runs: int = 0
    slowest_s: float = 0.0
    finding: tuple[bytes, BaseException] | None = None


def mutated(seeds: Sequence[bytes], rng: random.Random, max_bytes: int) -> bytes:
    """One of the seeds with one to eight things changed."""
    data = bytearray(rng.choice(seeds))
    for _ in range(1 << rng.randrange(4)):
        at = rng.randrange(len(data) + 1)
        way = rng.randrange(8)
        if way == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif way == 1 and data:
            data[at % len(data)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif way == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif way == 3:
            del data[at : at + rng.randrange(1, 17)]
        elif way == 4:
            width = rng.choice((1, 2, 4, 8))
            number = rng.choice(_NUMBERS) % (1 << 8 * width)
            data[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
        elif way == 5:
            piece = data[at : at + rng.randrange(1, 65)]
            data[at:at] = piece * rng.randrange(1, 5)
        elif way == 6:
            other = rng.choice(seeds)
            start = rng.randrange(len(other) + 1)
            data[at : at + rng.randrange(65)] = other[start : start + rng.randrange(65)]
        else:
            del data[at:]
    return bytes(data[:max_bytes])


def inputs(target: Target, seed: int) -> Iterator[bytes]:
    """The seeds as they are, then mutations without end; the same for the same seed."""
    seeds = target.seeds()
    yield from seeds
    rng = random.Random(seed)
    while True:
        yield mutated(seeds, rng, target.max_bytes)


def hunt(target: Target, *, seed: int = 0, runs: int = 0, seconds: float = 0.0) -> Outcome:
    """Try inputs until a number of runs or seconds is over, or the target raises."""
    outcome = Outcome()
    began = time.monotonic()
    for data in inputs(target, seed):
        before = time.monotonic()
        if (runs and outcome.runs >= runs) or (seconds and before - began >= seconds):
            break
        try:
            target.run(data)
        except Exception as exc:
            outcome.finding = (data, exc)
            break
        finally:
            outcome.runs += 1
            outcome.slowest_s = max(outcome.slowest_s, time.monotonic() - before)
    return outcome
