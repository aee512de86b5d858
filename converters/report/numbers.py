"""Histograms and worst rows from two arrays. Pure."""

from __future__ import annotations

import math

import numpy as np

from converters.elements import is_float, is_text, numbers
from converters.parity import compare
from converters.report.evidence import OutputEvidence, WorstRow
from edged.manifest import Tolerance
from edged.tensors import Array

BINS = (0.0, 1e-9, 1e-5, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Shares of the allowed difference: none, hardly any, decades, then finer, then beyond it."""
VALUES = 8
"""Values of a row that are shown; rows of thousands are not read."""


def output_evidence(name: str, expected: Array, got: Array, tolerance: Tolerance) -> OutputEvidence:
    """How one output compares, with a histogram and the worst rows.

    Args:
        name: the output.
        expected: the framework's, a row each.
        got: the converted model's.
        tolerance: what is allowed.
    """
    result = compare(name, expected, got, tolerance)
    shares = row_shares(expected, got, tolerance)
    order = np.argsort(-shares, kind="stable")[: len(result.worst_rows)]
    return OutputEvidence(
        name=name,
        rows=result.rows,
        max_abs=_finite(result.max_abs),
        max_rel=_finite(result.max_rel),
        rows_beyond=result.rows_beyond,
        label_agreement=result.label_agreement,
        is_constant=result.is_constant,
        bins=BINS,
        counts=count(shares),
        worst=tuple(_worst(int(row), expected, got, float(shares[row])) for row in order),
    )


def row_shares(expected: Array, got: Array, tolerance: Tolerance) -> Array:
    """The largest share of the allowed difference that each row uses: float64[rows]."""
    if is_text(expected):
        differing = np.where(expected == got, 0.0, np.inf)
        found: Array = differing.reshape(len(differing) if differing.ndim else 1, -1)
        most: Array = found.max(axis=1, initial=0.0)
        return most
    is_whole = not is_float(expected)
    wide, have = numbers(expected).astype(np.float64), numbers(got).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        gap = np.abs(have - wide)
        gap = np.where(wide == have, 0.0, np.where(np.isnan(gap), np.inf, gap))
        allowed = tolerance.atol + tolerance.rtol * np.abs(wide)
        if is_whole:
            allowed = np.zeros_like(gap)
        share = np.where(gap == 0, 0.0, np.where(allowed > 0, gap / allowed, np.inf))
    rows = share.shape[0] if share.ndim else 1
    largest: Array = share.reshape(rows, -1).max(axis=1, initial=0.0)
    return largest


def count(shares: Array) -> tuple[int, ...]:
    """Rows in each bin; the last bin is everything from its lower end on."""
    edges = np.array([0.0, *BINS[1:], np.inf])
    index = np.clip(np.searchsorted(edges, shares, side="right") - 1, 0, len(BINS) - 1)
    index = np.where(shares > 1.0, len(BINS) - 1, np.minimum(index, len(BINS) - 2))
    return tuple(int(number) for number in np.bincount(index, minlength=len(BINS)))


def _worst(row: int, expected: Array, got: Array, share: float) -> WorstRow:
    wanted = expected[row] if expected.ndim else expected
    found = got[row] if got.ndim else got
    if is_text(expected):  # a row of numbers is all that it has room for
        return WorstRow(row, (), (), None, _finite(share))
    wanted, found = numbers(np.asarray(wanted)), numbers(np.asarray(found))
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
    # The values that differ most come first: of a thousand, the first eight say nothing.
    order = np.sort(np.argsort(-np.nan_to_num(gap, nan=np.inf).reshape(-1), kind="stable")[:VALUES])
    return WorstRow(
        row=row,
        framework=tuple(_finite(float(v)) for v in wanted.reshape(-1)[order]),
        converted=tuple(_finite(float(v)) for v in found.reshape(-1)[order]),
        max_abs=_finite(float(np.nan_to_num(gap, nan=np.inf).max(initial=0.0))),
        share=_finite(share),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
