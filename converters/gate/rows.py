"""Whether axis 0 really is the row axis: proven by running the model at several sizes.

A graph may declare a free axis and still answer wrongly at another size, so rows are run alone, in
pairs, together, and as many at once as a device puts into one run. Also shows a model that gives
another answer each time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from converters.elements import are_close, same
from converters.errors import UnsupportedModelError
from converters.session import Run
from edged.manifest import Tolerance
from edged.tensors import Array

SIZES = (1, 2, 3)
"""1 is what exporters take for a constant, 2 what they are given as an example, 3 neither."""
SPLIT_ROWS = 4
"""Run whole and in pairs: a reshape to pairs is right for two rows and wrong for four."""
MAX_ROWS = 32
"""Most rows of one run on a device that says nothing else (``batching.max_batch``)."""
MAX_INPUT_BYTES = 4 << 20
"""Of the largest run: eight pictures of 224x224. What breaks at 32 rows breaks at 8 as well, and
more would make the gate as slow as the export."""

Dims = list[int | str]


def declared(value: onnx.ValueInfoProto) -> Dims:
    """The dims as the graph declares them; an unknown one has the empty name."""
    shape = value.type.tensor_type.shape
    return [int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else d.dim_param
            for d in shape.dim]  # fmt: skip


def refuse_frozen(kind: str, value: onnx.ValueInfoProto) -> None:
    """Refuse an axis 0 of one fixed length.

    Raises:
        UnsupportedModelError: names the tensor and how to export it with a free axis.
    """
    dims = declared(value)
    if not dims:
        if kind == "output" and not value.type.tensor_type.HasField("shape"):
            return  # rank unknown: the runs decide
        raise UnsupportedModelError(
            f'{kind} "{value.name}" has no axes, so no row axis; say --batch none if one call '
            "cannot be split into rows"
        )
    if isinstance(dims[0], int):
        raise UnsupportedModelError(
            f'{kind} "{value.name}" has its batch axis frozen at {dims[0]} '
            f"(shape {dims}): export the model with a free axis 0 (PyTorch: "
            'dynamic_shapes={"x": {0: "batch"}}; Keras: no fixed batch_size), or say --batch none'
        )


def largest_batch(samples: Mapping[str, Array]) -> int:
    """How many rows the largest run takes: the same on every machine."""
    rows = len(next(iter(samples.values())))
    row_bytes = max(1, sum(array.nbytes for array in samples.values()) // max(1, rows))
    return min(MAX_ROWS, max(8, MAX_INPUT_BYTES // row_bytes))


def prove_rows(
    model: onnx.ModelProto, run: Run, samples: Mapping[str, Array], tolerance: Tolerance
) -> tuple[tuple[int, ...], dict[str, Array]]:
    """Prove that axis 0 is the row axis of every input and output.

    Args:
        model: its inputs and outputs must declare a free axis 0.
        run: runs it.
        samples: real inputs, two rows or more; repeated where the largest run needs more.
        tolerance: what two runs of one row may differ by.

    Returns:
        The numbers of rows that were run, and the answers of the largest run, whose rows are the
        first samples: they need not be asked again.

    Raises:
        UnsupportedModelError: an axis is frozen, rows change one another, or the same rows give
            different answers; names the tensor.
    """
    for value in model.graph.input:
        refuse_frozen("input", value)
    for value in model.graph.output:
        refuse_frozen("output", value)
    rows = largest_batch(samples)
    many = {name: _repeat(array, rows) for name, array in samples.items()}
    whole = run(many)
    for name, array in whole.items():
        if array.ndim == 0 or len(array) != rows:
            raise _not_row_wise(name, f"{rows} rows gave shape {list(array.shape)}")
    for size in SIZES:
        _compare(run(_take(many, 0, size)), whole, 0, size, tolerance)
    _compare(run(_take(many, 0, SPLIT_ROWS)), whole, 0, SPLIT_ROWS, tolerance)
    for start in range(2, SPLIT_ROWS, 2):  # the first pair was one of the sizes
        _compare(run(_take(many, start, start + 2)), whole, start, start + 2, tolerance)
    _refuse_moods(run, _take(many, 0, 1))
    return (*SIZES, SPLIT_ROWS, rows), whole


def _repeat(array: Array, rows: int) -> Array:
    return array[np.arange(rows) % len(array)]


def _take(arrays: Mapping[str, Array], start: int, stop: int) -> dict[str, Array]:
    return {name: array[start:stop] for name, array in arrays.items()}


def _compare(
    got: Mapping[str, Array],
    whole: Mapping[str, Array],
    start: int,
    stop: int,
    tolerance: Tolerance,
) -> None:
    """Hold rows that were run by themselves against the same rows of the large run."""
    for name, array in got.items():
        wanted = whole[name][start:stop]
        if array.shape != wanted.shape:
            raise _not_row_wise(
                name, f"rows {start} to {stop - 1} alone gave shape {list(array.shape)}"
            )
        close = are_close(array, wanted, tolerance)
        if not close.all():
            bad = int(np.flatnonzero(~close.reshape(len(close), -1).all(axis=1))[0]) + start
            raise _not_row_wise(name, f"row {bad} changes")


def _not_row_wise(name: str, detail: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f'output "{name}" is not row-wise: rows give different answers alone, in pairs and '
        f"together ({detail}). A reshape, a hard-coded batch or a batch-wide step mixes rows: "
        "change it to keep axis 0, or say --batch none"
    )


def _refuse_moods(run: Run, rows: Mapping[str, Array]) -> None:
    first, second = run(rows), run(rows)
    for name, array in first.items():
        if not same(array, second[name]):
            raise UnsupportedModelError(
                f'output "{name}" is another one each time for the same rows: something random '
                "was left in the model; call eval() before exporting, and leave noise layers out"
            )
