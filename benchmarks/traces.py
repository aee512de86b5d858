"""Requests in order, and the fewest loads that they can need: what an eviction is held against."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate


def zipf(models: int, requests: int, seed: int, exponent: float = 1.0) -> list[int]:
    """Models by number, the k-th favourite asked for with weight ``1 / k ** exponent``."""
    chance = random.Random(seed)
    names = list(range(models))
    chance.shuffle(names)
    weights = list(accumulate((rank + 1) ** -exponent for rank in range(models)))
    return chance.choices(names, cum_weights=weights, k=requests)


def belady(trace: Sequence[int], room: int) -> int:
    """The fewest loads there can be: always the one goes that is asked for last."""
    never = len(trace)
    next_use, following = dict.fromkeys(trace, never), [0] * len(trace)
    for at in range(len(trace) - 1, -1, -1):
        following[at], next_use[trace[at]] = next_use[trace[at]], at
    inside: dict[int, int] = {}
    loads = 0
    for at, model in enumerate(trace):
        if model not in inside:
            loads += 1
            if len(inside) == room:
                del inside[max(inside, key=lambda one: inside[one])]
        inside[model] = following[at]
    return loads


def least_recent(trace: Sequence[int], room: int) -> int:
    """The loads when always the one goes that was asked for longest ago."""
    inside: dict[int, None] = {}
    loads = 0
    for model in trace:
        if model in inside:
            del inside[model]
        else:
            loads += 1
            if len(inside) == room:
                del inside[next(iter(inside))]
        inside[model] = None
    return loads
