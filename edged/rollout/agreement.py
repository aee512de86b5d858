"""Whether two releases gave the same answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edged.tensors import BFLOAT16, Array, from_bfloat16


def agree(got: Mapping[str, Array], wanted: Mapping[str, Array], tolerance: float) -> bool:
    """Whether all tensors do.

    Args:
        got: what is held against the other.
        wanted: what counts as right; only its tensors are looked at.
        tolerance: numbers with a fraction agree that differ by at most this much, or by this part
            of the wanted one; everything else must be equal. NaN agrees with NaN.
    """
    return all(
        name in got and _agrees(got[name], array, tolerance) for name, array in wanted.items()
    )


def _agrees(got: Array, wanted: Array, tolerance: float) -> bool:
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return False
    if wanted.dtype == BFLOAT16:
        got, wanted = from_bfloat16(got), from_bfloat16(wanted)
    if wanted.dtype.kind != "f":
        return bool((got == wanted).all())
    with np.errstate(invalid="ignore", over="ignore"):
        # Nearly all do, and this takes a third of the time; whatever is not finite is looked at.
        limit = np.abs(wanted) * tolerance + tolerance
        if (np.abs(got - wanted) <= limit).all() and (limit < np.inf).all():
            return True
        return bool(np.allclose(got, wanted, rtol=tolerance, atol=tolerance, equal_nan=True))
