"""How far what a release sees and says lies from what its bundle shows of it. Pure.

By the mean, in standard deviations, and by the whole distribution, as the population stability
index: the sum of (live share - reference share) * ln(live share / reference share) over tenths of
the reference. Where a bundle has no statistics, its golden samples stand for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from edged.manifest import Statistics
from edged.rollout.tally import Moments
from edged.tensors import BFLOAT16, Array, from_bfloat16

_LEAST_SHARE = 1e-3
LARGEST = 1e100
"""Beyond it a number is none that a model means; sums of its square would overflow, and the notes
on disk, where the infinite cannot be written, would count as damaged."""
_MOST_ELEMENTS = 1 << 16
"""Of one tensor: some 50 us; of a longer one every so manieth is looked at."""


class Reference(NamedTuple):
    """Mean and standard deviation of a tensor's elements, and how they are spread."""

    mean: float
    deviation: float
    edges: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()


def references(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Reference]:
    """Of samples, by ``in.NAME`` and ``out.NAME``; tensors that do not vary are left out."""
    found = {}
    for prefix, arrays in (("in", inputs), ("out", outputs)):
        for name, array in arrays.items():
            numbers = numbers_of(array)
            if numbers is None or not numbers.size or not (np.abs(numbers) <= LARGEST).all():
                continue
            deviation = float(numbers.std())
            if deviation > 1e-9 * max(1.0, abs(float(numbers.mean()))):
                spread = spread_of(numbers)
                found[f"{prefix}.{name}"] = Reference(float(numbers.mean()), deviation, *spread)
    return found


def told(statistics: Mapping[str, Statistics]) -> dict[str, Reference]:
    """Of what a bundle says itself; tensors that do not vary are left out."""
    return {
        name: Reference(one.mean, one.deviation, one.edges, one.shares)
        for name, one in statistics.items()
        if one.deviation > 1e-9 * max(1.0, abs(one.mean)) and abs(one.mean) <= LARGEST
    }


def spread_of(numbers: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The edges between tenths of some numbers, each once, and the shares they make."""
    edges = np.unique(np.quantile(numbers, np.linspace(0.1, 0.9, 9), method="lower"))
    return tuple(map(float, edges)), shares_of(tuple(edges), numbers)


def shares_of(edges: Sequence[float], numbers: Array) -> tuple[float, ...]:
    """How much of some numbers lies below the first edge, between each two, and from the last."""
    return tuple(float(count) / numbers.size for count in _counts(np.asarray(edges), numbers))


def observe(moments: Moments, array: Array, reference: Reference | None = None) -> None:
    """Add a tensor."""
    numbers = numbers_of(array)
    if numbers is None:
        return
    finite = np.abs(numbers) <= LARGEST
    if not finite.all():
        moments.strange += int(numbers.size - np.count_nonzero(finite))
        numbers = numbers[finite]
    moments.looks += 1
    if reference is not None and reference.edges:
        counts = _counts(np.asarray(reference.edges), numbers)
        before = moments.cells
        if len(before) != len(counts):
            before = [0] * len(counts)
        moments.cells = [a + int(b) for a, b in zip(before, counts, strict=True)]
    moments.count += int(numbers.size)
    moments.total += float(numbers.sum())


def drift_of(reference: Reference, moments: Moments) -> float:
    """How many standard deviations the mean has moved; what is no number is counted apart."""
    if not moments.count:
        return 0.0
    return abs(moments.total / moments.count - reference.mean) / reference.deviation


def strange_of(moments: Moments) -> float:
    """The percentage of elements that are NaN, infinite, or too large to be meant."""
    total = moments.count + moments.strange
    return 100 * moments.strange / total if total else 0.0


def psi_of(reference: Reference, moments: Moments) -> float:
    """The population stability index; 0 where nothing is known to compare."""
    live, shares = moments.cells, reference.shares
    total = sum(live)
    if not total or len(live) != len(shares):
        return 0.0
    found = 0.0
    for count, share in zip(live, shares, strict=True):
        # A share that is nothing would be infinitely far; half an element is as near to it.
        now, was = max(count, 0.5) / total, max(share, _LEAST_SHARE)
        found += (now - was) * math.log(now / was)
    return found


def _counts(edges: Array, numbers: Array) -> Array:
    """How many numbers lie below the first edge, from each up to the next, from the last on."""
    places = np.searchsorted(edges, numbers, side="right")
    counts: Array = np.bincount(places, minlength=len(edges) + 1)
    return counts


def numbers_of(array: Array) -> Array | None:
    """The elements as float64, of a long tensor a part; None where they are no numbers."""
    if array.dtype == BFLOAT16:
        array = from_bfloat16(array)
    if array.dtype.kind not in "biuf":
        return None
    flat = array.reshape(-1)
    if flat.size > _MOST_ELEMENTS:
        step = -(-flat.size // _MOST_ELEMENTS)
        while math.gcd(step, array.shape[-1]) > 1:
            step += 1  # else some columns would never be looked at
        flat = flat[::step]
    return flat.astype(np.float64)
