"""The parity gate: the framework's numbers against the converted model's, on real samples.

Decides whether a bundle may be made. Pure: it compares arrays and never runs a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from converters.elements import is_float, is_special, is_text, numbers, settle_tolerance
from converters.errors import ConversionError, ParityError
from edged.manifest import Tolerance
from edged.tensors import Array, describe


@dataclass(frozen=True)
class OutputParity:
    """How one output compares.

    Args:
        name: the output.
        rows: rows compared.
        max_abs: largest absolute difference; 1 where strings are not equal.
        max_rel: largest difference relative to the framework's value, where that is above atol.
        rows_beyond: rows with a value beyond the tolerance.
        worst_rows: the rows with the largest excess over the tolerance, worst first.
        label_agreement: share of rows whose best class is the same; None where there is none.
        is_constant: whether the framework gave the same for every row.
    """

    name: str
    rows: int
    max_abs: float
    max_rel: float
    rows_beyond: int
    worst_rows: tuple[int, ...]
    label_agreement: float | None
    is_constant: bool

    @property
    def worst_row(self) -> int:
        """The row that is nearest to failing, or fails worst."""
        return self.worst_rows[0]


WORST = 5
"""Rows that are kept for the report; a page of numbers is not looked at."""
SHOWN = 3
"""Rows that an error shows."""


def compare(name: str, expected: Array, got: Array, tolerance: Tolerance) -> OutputParity:
    """Compare one output, row by row.

    Args:
        name: for messages.
        expected: the framework's, one entry a row.
        got: the converted model's.
        tolerance: ``atol + rtol * |expected|``; whole numbers and strings must be equal.

    Raises:
        ParityError: shapes or kinds differ, or the framework itself gave NaN.
    """
    if expected.shape != got.shape:
        raise ParityError(
            f'output "{name}": the framework gives {list(expected.shape)}, the converted model '
            f"{list(got.shape)}"
        )
    if is_text(expected) != is_text(got):
        raise ParityError(
            f'output "{name}": the framework gives {_kind(expected)}, the converted model '
            f"{_kind(got)}"
        )
    if is_text(expected):
        return _compare_text(name, expected, got)
    expected, got, is_whole = numbers(expected), numbers(got), not is_float(expected)
    wide = expected.astype(np.float64)
    if np.isnan(wide).any():
        row = int(np.argwhere(np.isnan(wide))[0][0]) if wide.ndim else 0
        raise ParityError(
            f'output "{name}": the framework itself gives NaN for sample row {row}; use samples '
            "that the model can answer"
        )
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(got.astype(np.float64) - wide)
    gap = np.where(wide == got, 0.0, np.where(np.isnan(gap), np.inf, gap))
    allowed = np.zeros_like(gap)
    if not is_whole:
        allowed = np.where(np.isfinite(wide), tolerance.atol + tolerance.rtol * np.abs(wide), 0.0)
    excess = (gap - allowed).reshape(len(gap) if gap.ndim else 1, -1)
    sizes = np.abs(wide)
    with np.errstate(invalid="ignore"):
        relative = np.divide(gap, sizes, out=np.zeros_like(gap), where=sizes > tolerance.atol)
    return OutputParity(
        name=name,
        rows=len(excess),
        max_abs=float(gap.max(initial=0.0)),
        max_rel=float(relative.max(initial=0.0)),
        rows_beyond=int((excess > 0).any(axis=1).sum()),
        worst_rows=_worst(excess),
        label_agreement=_label_agreement(expected, got),
        is_constant=_is_constant(expected),
    )


def _kind(array: Array) -> str:
    return "strings" if is_text(array) else describe(array).partition("[")[0]


def _compare_text(name: str, expected: Array, got: Array) -> OutputParity:
    gap = (expected != got).astype(np.float64)
    differing = gap.reshape(len(gap) if gap.ndim else 1, -1)
    return OutputParity(
        name=name,
        rows=len(differing),
        max_abs=float(gap.max(initial=0.0)),
        max_rel=0.0,
        rows_beyond=int(differing.any(axis=1).sum()),
        worst_rows=_worst(differing),
        label_agreement=_label_agreement(expected, got),
        is_constant=_is_constant(expected),
    )


def _worst(excess: Array) -> tuple[int, ...]:
    if not excess.size:
        return (0,)
    order = np.argsort(-excess.max(axis=1), kind="stable")[:WORST]
    return tuple(int(row) for row in order)


def _label_agreement(expected: Array, got: Array) -> float | None:
    if expected.dtype.kind in "iuO" and expected.ndim <= 2:
        return float((expected == got).mean())
    if expected.ndim == 2 and expected.shape[1] > 1:
        return float((expected.argmax(axis=1) == got.argmax(axis=1)).mean())
    return None


def _is_constant(expected: Array) -> bool:
    if expected.ndim == 0 or len(expected) == 1:
        return bool(expected.size > 1 and _are_same(expected, expected.flat[0]))
    return _are_same(expected, expected[:1])


def _are_same(array: Array, first: Any) -> bool:
    equal = array == first
    if array.dtype.kind == "f":
        # Vector instructions round the rows at the end of a batch in another way than the others.
        with np.errstate(invalid="ignore", over="ignore"):
            equal |= np.abs(array - first) <= 2 * np.finfo(array.dtype).eps * np.abs(first)
    return bool(np.all(equal))


def judge(
    expected: Mapping[str, Array],
    got: Mapping[str, Array],
    tolerance: Tolerance,
    label_of: Mapping[str, str] = MappingProxyType({}),
) -> tuple[OutputParity, ...]:
    """Compare all outputs and refuse what is not proven.

    Args:
        expected: the framework's, by name.
        got: the converted model's.
        tolerance: as in ``compare``.
        label_of: outputs that are the best class of another output; where the framework's own two
            best scores are equal within the tolerance, either class is right.

    Raises:
        ParityError: a row beyond the tolerance (the worst is named), or a reference that proves
            nothing because it is constant.
    """
    settled = settle_labels(expected, got, tolerance, label_of)
    results = tuple(
        compare(name, array, settled[name], settle_tolerance(array, tolerance))
        for name, array in expected.items()
    )
    floats = [r for r in results if is_float(expected[r.name])] or list(results)
    if all(result.is_constant for result in floats):
        names = ", ".join(f'"{result.name}"' for result in floats)
        raise ParityError(
            f"the framework gives the same {names} for all {results[0].rows} samples, which "
            "proves nothing: is the model trained, and are the samples real and different?"
        )
    for result in results:
        if result.rows_beyond:
            allowed = settle_tolerance(expected[result.name], tolerance)
            raise ParityError(_explain(result, expected, got, allowed))
    return results


def settle_labels(
    expected: Mapping[str, Array],
    got: Mapping[str, Array],
    tolerance: Tolerance,
    label_of: Mapping[str, str],
) -> dict[str, Array]:
    """The converted model's answers with the framework's label wherever its scores are tied."""
    tied = {name: find_ties(expected[scores], tolerance) for name, scores in label_of.items()}
    return {name: _settle(array, got[name], tied.get(name)) for name, array in expected.items()}


def as_output(name: str, expected: Array, got: Array) -> Array:
    """The framework's numbers in the dtype and rank of the model's output (float64 → float32).

    Raises:
        ConversionError: numbers of another kind.
    """
    if (
        expected.shape != got.shape
        and expected.size == got.size
        and expected.shape[:1] == got.shape[:1]
    ):
        expected = expected.reshape(got.shape)
    is_number = not is_special(expected) and not is_special(got)
    if expected.dtype.kind == got.dtype.kind or (expected.dtype.kind in "iu" and is_number):
        return np.asarray(expected.astype(got.dtype), order="C")
    raise ConversionError(
        f'output "{name}": the framework gives {_kind(expected)}, the converted model {_kind(got)}'
    )


def find_ties(scores: Array, tolerance: Tolerance) -> Array:
    """Rows whose two best scores do not differ by more than the tolerance: bool[rows]."""
    best = np.sort(scores.astype(np.float64), axis=-1)[:, -2:]
    allowed: Array = 2 * (tolerance.atol + tolerance.rtol * np.abs(best).max(axis=1))
    ties: Array = (best[:, -1] - best[:, 0]) <= allowed
    return ties


def _settle(expected: Array, got: Array, tied: Array | None) -> Array:
    """Take the framework's label where the scores are tied."""
    return got if tied is None or expected.shape != got.shape else np.where(tied, expected, got)


def _explain(
    result: OutputParity,
    expected: Mapping[str, Array],
    got: Mapping[str, Array],
    tolerance: Tolerance,
) -> str:
    wanted, found = numbers(expected[result.name]), numbers(got[result.name])
    agreement = (
        f"; best class agrees on {result.label_agreement:.2%} of rows"
        if result.label_agreement is not None
        else ""
    )
    rows = result.worst_rows[: min(SHOWN, result.rows_beyond)]
    pairs = [(wanted[row], found[row]) for row in rows] if wanted.ndim else [(wanted, found)]
    shown = "; ".join(
        f"sample row {row}: framework {_few(want)}, converted {_few(have)}"
        for row, (want, have) in zip(rows, pairs, strict=True)
    )
    if is_text(wanted):
        return (
            f'output "{result.name}": {result.rows_beyond} of {result.rows} rows give other '
            f"strings, which must be equal; {shown}"
        )
    return (
        f'output "{result.name}": {result.rows_beyond} of {result.rows} rows are beyond rtol '
        f"{tolerance.rtol:g}, atol {tolerance.atol:g} (largest difference {result.max_abs:.3g})"
        f"{agreement}; worst: {shown}. If such differences do not matter for you, widen "
        "--rtol/--atol"
    )


def _few(row: Array) -> str:
    flat = np.asarray(row).reshape(-1)
    text = ", ".join(map(_show, flat[:6].tolist()))
    return f"[{text}{', …' if flat.size > 6 else ''}]"


def _show(value: float | bytes) -> str:
    if isinstance(value, bytes):
        return json.dumps(value[:40].decode("utf-8", "replace"), ensure_ascii=False)
    return f"{value:.6g}"


def round_up(value: float) -> float:
    """Two significant digits: the last bits of a difference tell of the machine, not the model."""
    return float(f"{value:.1e}")
