"""How far what a release sees and says lies from what its bundle shows of it. Pure.

A bundle has no statistics of its own: its golden samples stand for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from edged.rollout.tally import Moments
from edged.tensors import BFLOAT16, Array, from_bfloat16

_MOST_ELEMENTS = 1 << 16
"""Of one tensor: some 50 us; of a longer one every so manieth is looked at."""


class Reference(NamedTuple):
    """Mean and standard deviation of a tensor's elements."""

    mean: float
    deviation: float


def references(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Reference]:
    """Of samples, by ``in.NAME`` and ``out.NAME``; tensors that do not vary are left out."""
    found = {}
    for prefix, arrays in (("in", inputs), ("out", outputs)):
        for name, array in arrays.items():
            numbers = _numbers(array)
            if numbers is None or not numbers.size or not np.isfinite(numbers).all():
                continue
            deviation = float(numbers.std())
            if deviation > 1e-9 * max(1.0, abs(float(numbers.mean()))):
                found[f"{prefix}.{name}"] = Reference(float(numbers.mean()), deviation)
    return found


def observe(moments: Moments, array: Array) -> None:
    """Add a tensor."""
    numbers = _numbers(array)
    if numbers is None:
        return
    finite = np.isfinite(numbers)
    if not finite.all():
        moments.strange += int(numbers.size - np.count_nonzero(finite))
        numbers = numbers[finite]
    moments.count += int(numbers.size)
    moments.total += float(numbers.sum())
    moments.squares += float(np.square(numbers).sum())


def drift_of(reference: Reference, moments: Moments) -> float:
    """How many standard deviations the mean has moved; infinite where numbers are none."""
    if moments.strange:
        return math.inf
    if not moments.count:
        return 0.0
    return abs(moments.total / moments.count - reference.mean) / reference.deviation


def _numbers(array: Array) -> Array | None:
    if array.dtype == BFLOAT16:
        array = from_bfloat16(array)
    if array.dtype.kind not in "biuf":
        return None
    flat = array.reshape(-1)
    if flat.size > _MOST_ELEMENTS:
        flat = flat[:: -(-flat.size // _MOST_ELEMENTS)]
    return flat.astype(np.float64)
