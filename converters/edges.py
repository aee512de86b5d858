"""Edge cases: rows that samples seldom hold, made from them, with the framework's own answers.

Decides which rows are made: nothing at all (0, the empty string), the least and the most of every
column, and nothing known (NaN). A framework that refuses such a row, or answers NaN to it, does not
take it, and no device is tested on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from converters.elements import has_nan, is_float, is_text, numbers, same
from converters.sources.base import Exported
from edged.tensors import BFLOAT16, Array, to_bfloat16

Edge = tuple[dict[str, Array], dict[str, Array]]
"""One row for each input, and what the framework answers for each output."""
MISSING = "missing"
"""The edge whose floats are all NaN: proves what a model makes of missing values."""

PROMISED = frozenset({"unknown-words", "missing-words"})
"""Edges that the bundle itself says devices take, whatever the samples hold."""


def make_edges(samples: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """One row an edge, of the samples' dtypes and shapes; those that are alike only once.

    Args:
        samples: rows first.
    """
    made = {
        "zeros": _each(samples, _nothing),
        "lowest": _each(samples, lambda rows: _extreme(rows, np.fmin)),
        "highest": _each(samples, lambda rows: _extreme(rows, np.fmax)),
    }
    if any(map(is_float, samples.values())):
        made[MISSING] = _each(samples, _missing)
    kept: dict[str, dict[str, Array]] = {}
    for name, rows in made.items():
        if not any(_same(rows, other) for other in kept.values()):
            kept[name] = rows
    return kept


def is_within(edge: Mapping[str, Array], samples: Mapping[str, Array]) -> bool:
    """Whether every number of a made row lies between the least and the most of its column.

    A string has to be one of the column's.
    """
    for name, made in edge.items():
        if is_text(made):
            if not (samples[name] == made).any(axis=0).all():
                return False
            continue
        row, rows = numbers(made), numbers(samples[name])
        if has_nan(row):
            return has_nan(rows)
        low, high = _extreme(rows, np.fmin), _extreme(rows, np.fmax)
        if ((row < low) | (row > high)).any():
            return False
    return True


def ask_edges(exported: Exported, batch: str) -> dict[str, Edge]:
    """Ask the framework for its answers to the edge cases it takes."""
    if exported.call is None or batch != "rows":
        return {}
    answered: dict[str, Edge] = {}
    for name, inputs in {**make_edges(exported.inputs), **exported.made_edges}.items():
        outputs = _ask(exported.call, inputs, exported.outputs)
        if outputs is not None:
            answered[name] = (inputs, outputs)
    return answered


def _ask(
    call: Callable[[dict[str, Array]], dict[str, Array]],
    inputs: dict[str, Array],
    known: Mapping[str, Array],
) -> dict[str, Array] | None:
    """The answers to one row; None where the framework does not take it."""
    try:
        with np.errstate(all="ignore"):
            outputs = {name: np.asarray(array) for name, array in call(dict(inputs)).items()}
    except Exception:
        return None  # frameworks raise anything: it refuses such rows, which is an answer too
    if not outputs.keys() >= known.keys():
        return None
    outputs = {name: outputs[name] for name in known}
    floats = [numbers(array) for array in outputs.values() if is_float(array)]
    fits = all(
        array.ndim == known[name].ndim
        and len(array) == 1
        and array.shape[1:] == known[name].shape[1:]
        and array.dtype.kind == known[name].dtype.kind
        for name, array in outputs.items()
    )
    # A model that gives labels alone says nothing of NaN that could be believed.
    is_told = bool(floats) or not (
        any(map(has_nan, inputs.values())) or not any(map(is_text, inputs.values()))
    )
    return outputs if fits and is_told and all(np.isfinite(a).all() for a in floats) else None


def _each(samples: Mapping[str, Array], make: Callable[[Array], Array]) -> dict[str, Array]:
    """One row of each, in its own type."""
    made: dict[str, Array] = {}
    for name, array in samples.items():
        row = make(numbers(array))[:1]
        made[name] = np.ascontiguousarray(
            to_bfloat16(row) if array.dtype == BFLOAT16 else row.astype(array.dtype)
        )
    return made


def _nothing(rows: Array) -> Array:
    return np.full_like(rows, b"") if is_text(rows) else np.zeros_like(rows)


def _extreme(rows: Array, pick: np.ufunc) -> Array:
    if is_text(rows):
        ordered = np.sort(rows, axis=0)
        return ordered[:1] if pick is np.fmin else ordered[-1:]
    if rows.dtype.kind == "b":
        rows = rows.astype(np.uint8)
    with np.errstate(invalid="ignore"):
        least: Array = pick.reduce(rows, axis=0, keepdims=True)
    return least


def _missing(rows: Array) -> Array:
    return np.full_like(rows, np.nan) if rows.dtype.kind == "f" else rows


def _same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return all(same(one[name], other[name]) for name in one)
