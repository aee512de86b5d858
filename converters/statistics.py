"""How the samples' numbers are spread: what a device holds live ones against (``guard.drift``)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from msgspec import UNSET, UnsetType

from edged.manifest import Statistics
from edged.rollout.drift import LARGEST, numbers_of, shares_of, spread_of
from edged.tensors import Array

_DIGITS = 9
"""Beyond them machines differ, and the same recipe is to give the same bytes."""


def gather_statistics(
    inputs: Mapping[str, Array], outputs: Mapping[str, Array]
) -> dict[str, Statistics] | UnsetType:
    """Of all samples, by ``in.NAME`` and ``out.NAME``; none of texts and of broken numbers."""
    found = {}
    for prefix, arrays in (("in", inputs), ("out", outputs)):
        for name, array in arrays.items():
            numbers = numbers_of(array)
            if numbers is None or not numbers.size or not (np.abs(numbers) <= LARGEST).all():
                continue
            edges, _ = spread_of(numbers)
            rounded = tuple(dict.fromkeys(map(_short, edges)))
            if len(rounded) != len(edges):
                continue  # so alike that there is nothing to tell apart
            # By the edges as written: one that was rounded up leaves its own numbers below it.
            shares = shares_of(rounded, numbers)
            found[f"{prefix}.{name}"] = Statistics(
                int(numbers.size), _short(float(numbers.mean())), _short(float(numbers.std())),
                rounded, tuple(map(_short, shares)),
            )  # fmt: skip
    return found or UNSET


def _short(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")
