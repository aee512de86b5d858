"""The range of every inner value on calibration rows, a few rows at a time.

ONNX Runtime's own calibrators keep what every row gives (hundreds of gigabytes were reported), or
drop what they have seen when told to keep less. Here nothing but two numbers a value is kept, and
a histogram for percentiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, shape_inference

from converters import graph
from converters.errors import ConversionError
from converters.precision.kept import Kept
from converters.session import open_session
from edged.tensors import Array

Method = Literal["minmax", "percentile"]
Chunks = Callable[[int], Iterator[dict[str, Array]]]
"""Gives the rows from the first on, at most so many at a time."""
CHUNK_ROWS = 8
"""Eight pictures of 224x224 take some hundred megabytes inside a deep network."""
CHUNK_BYTES = 64 << 20
"""Of the rows of one run; a single row may have more."""
MEMORY_BYTES = 256 << 20
"""Of the inner values that one run of the percentile's pass gives."""
EXTREMES, HISTOGRAM = "extremes", "histogram"
"""The passes over the rows."""
BINS = 2048
PERCENTILE = 99.99
"""Of the values that stay inside: one in ten thousand may be cut, half of them at each end."""


@dataclass(frozen=True)
class ValueRange:
    """The least and the most of one value."""

    low: float
    high: float


def typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the type of every inner value.

    Raises:
        ConversionError: its types contradict one another.
    """
    try:
        return shape_inference.infer_shapes(model, strict_mode=False)
    except Exception as exc:
        raise ConversionError(f"the types of the graph's values cannot be told: {exc}") from exc


def rows_at_once(row_bytes: int) -> int:
    """How many rows of that size one run may take."""
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES // max(1, row_bytes)))


def measure_ranges(
    model: onnx.ModelProto,
    chunks: Chunks,
    method: Method = "minmax",
    *,
    most: int = CHUNK_ROWS,
    kept: Kept | None = None,
) -> dict[str, ValueRange]:
    """Run the rows through the graph as it is written, on one thread.

    Args:
        model: with the types of its inner values (``typed``).
        chunks: the rows; gone through once, or twice for percentiles.
        method: the whole range, or what holds PERCENTILE of the values.
        most: rows of one run (``rows_at_once``).
        kept: what a run before has measured, and where this one keeps it.

    Returns:
        For every float32 value of the main graph that is no weight.

    Raises:
        ConversionError: it does not run, or a value is not finite.
    """
    values = _float_values(model)
    kept = kept or Kept()
    done, found = 0, dict[str, Array]()
    if method == "percentile":
        ends = {"low": (len(values),), "high": (len(values),)}
        done, found = kept.read(HISTOGRAM, {**ends, "counts": (len(values), BINS)})
    ranges = _as_ranges(values, found) if found else _extremes(model, values, chunks, most, kept)
    if method == "minmax":
        return ranges
    counts = found.get("counts", np.zeros((len(values), BINS), dtype=np.int64))
    return _percentiles(model, ranges, chunks, most, kept, before=_Counting(done, counts))


def _float_values(model: onnx.ModelProto) -> list[str]:
    weights = {tensor.name for tensor in model.graph.initializer}
    given = {name for node in model.graph.node for name in node.output}
    given.update(value.name for value in model.graph.input)
    listed = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    floats = [v.name for v in listed if v.type.tensor_type.elem_type == TensorProto.FLOAT]
    return [name for name in dict.fromkeys(floats) if name in given and name not in weights]


def _extremes(
    model: onnx.ModelProto, values: list[str], chunks: Chunks, most: int, kept: Kept
) -> dict[str, ValueRange]:
    probe = _copy(model)
    del probe.graph.output[:]
    for index, name in enumerate(values):
        for operator in ("ReduceMin", "ReduceMax"):
            made = f"edged/{operator}/{index}"
            probe.graph.node.append(helper.make_node(operator, [name], [made], keepdims=0))
            probe.graph.output.append(helper.make_tensor_value_info(made, TensorProto.FLOAT, []))
    run = open_session(graph.serialize(probe), optimise=False)
    done, found = kept.read(EXTREMES, {"low": (len(values),), "high": (len(values),)})
    low = found.get("low", np.full(len(values), np.inf))
    high = found.get("high", np.full(len(values), -np.inf))
    for number, rows in enumerate(chunks(most), start=1):
        if number <= done:
            continue
        got = list(run(rows).values())
        low = np.minimum(low, [float(array) for array in got[::2]])
        high = np.maximum(high, [float(array) for array in got[1::2]])
        kept.note(EXTREMES, number, {"low": low, "high": high})
    for name, least, highest in zip(values, low, high, strict=True):
        if not (np.isfinite(least) and np.isfinite(highest)):
            raise ConversionError(
                f'calibration: the inner value "{name}" is not finite on some row ({least:g} to '
                f"{highest:g}); a model that overflows in float32 cannot be made int8"
            )
    return _as_ranges(values, {"low": low, "high": high})


def _as_ranges(values: list[str], ends: Mapping[str, Array]) -> dict[str, ValueRange]:
    return {
        name: ValueRange(float(low), float(high))
        for name, low, high in zip(values, ends["low"], ends["high"], strict=True)
    }


@dataclass(frozen=True)
class _Counting:
    """A histogram of each value over its whole range, after so many chunks."""

    done: int
    counts: Array


def _percentiles(
    model: onnx.ModelProto,
    ranges: Mapping[str, ValueRange],
    chunks: Chunks,
    most: int,
    kept: Kept,
    *,
    before: _Counting,
) -> dict[str, ValueRange]:
    """Histograms, then the ends cut off."""
    probe = _copy(model)
    del probe.graph.output[:]
    for name in ranges:
        probe.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    run = open_session(graph.serialize(probe), optimise=False)
    first = run(next(chunks(1)))
    size = sum(array.nbytes for array in first.values())
    at_once = max(1, min(most, MEMORY_BYTES // max(1, size)))
    ends = {
        "low": np.array([span.low for span in ranges.values()]),
        "high": np.array([span.high for span in ranges.values()]),
    }
    counts = before.counts
    for number, rows in enumerate(chunks(at_once), start=1):
        if number <= before.done:
            continue
        for index, (name, array) in enumerate(run(rows).items()):
            span = (ranges[name].low, ranges[name].high)
            if span[1] > span[0]:
                counts[index] += np.histogram(array, BINS, span)[0]
        kept.note(HISTOGRAM, number, {**ends, "counts": counts})
    return {name: _cut(span, row) for (name, span), row in zip(ranges.items(), counts, strict=True)}


def _cut(span: ValueRange, counts: Array) -> ValueRange:
    total = counts.sum()
    if not total:
        return span
    share = np.cumsum(counts) / total
    out = (100 - PERCENTILE) / 200
    edges = np.linspace(span.low, span.high, BINS + 1)
    low = int(np.searchsorted(share, out, side="right"))
    high = int(np.searchsorted(share, 1 - out, side="left")) + 1
    return ValueRange(float(edges[low]), float(edges[min(high, BINS)]))


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied
