"""The signature that a bundle promises: names, dtypes, named axes; proven by running the model.

Decides whether axis 0 really is the row axis: a graph may declare a free axis and still answer
wrongly at another size, so rows are run alone, together and in pairs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from converters.errors import UnsupportedModelError
from converters.graph import dtype_of
from converters.session import Run
from edged.manifest import TensorEntry, Tolerance
from edged.tensors import BATCH, Array

Dims = list[int | str]
SPLIT_ROWS = 6
"""Rows of the split test: run alone, in two uneven parts and whole."""


def declared(value: onnx.ValueInfoProto) -> Dims:
    """The dims as the graph declares them; an unknown one has the empty name."""
    shape = value.type.tensor_type.shape
    return [int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else d.dim_param
            for d in shape.dim]  # fmt: skip


def prove_rows(
    model: onnx.ModelProto, run: Run, samples: Mapping[str, Array], tolerance: Tolerance
) -> None:
    """Prove that axis 0 is the row axis of every input and output.

    Raises:
        UnsupportedModelError: an axis is frozen, or rows change one another; names the tensor.
    """
    for value in model.graph.input:
        refuse_frozen("input", value)
    for value in model.graph.output:
        refuse_frozen("output", value)
    rows = min(SPLIT_ROWS, len(next(iter(samples.values()))))
    few = {name: array[:rows] for name, array in samples.items()}
    whole = run(few)
    for cut in {1, rows // 2, rows - 1} - {0, rows}:
        first = run({name: array[:cut] for name, array in few.items()})
        second = run({name: array[cut:] for name, array in few.items()})
        for name, array in whole.items():
            _compare_parts(name, array, [first[name], second[name]], (cut, rows), tolerance)


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


def _compare_parts(
    name: str, whole: Array, parts: Sequence[Array], cut: tuple[int, int], tolerance: Tolerance
) -> None:
    at, rows = cut
    fits = all(part.ndim == whole.ndim and part.ndim > 0 for part in parts) and [
        len(part) for part in parts
    ] == [at, rows - at]
    if fits and len(whole) == rows and all(p.shape[1:] == whole.shape[1:] for p in parts):
        joined = np.concatenate(list(parts))
        if np.allclose(joined, whole, tolerance.rtol, tolerance.atol, equal_nan=True):
            return
        bad = np.flatnonzero([
            not np.allclose(a, b, tolerance.rtol, tolerance.atol, equal_nan=True)
            for a, b in zip(joined, whole, strict=True)
        ])  # fmt: skip
        detail = f"row {bad[0]} changes"
    else:
        shapes = " and ".join(str(list(part.shape)) for part in parts)
        detail = f"{list(whole.shape)} became {shapes}"
    raise UnsupportedModelError(
        f'output "{name}" is not row-wise: {rows} rows at once and in parts of {at} and '
        f"{rows - at} give different answers ({detail}). A reshape or a batch-wide step mixes "
        "rows: change it to keep axis 0, or say --batch none"
    )


def read_signature(
    model: onnx.ModelProto,
    samples: Mapping[str, Array],
    outputs: Mapping[str, Array],
    batch: str,
) -> tuple[tuple[TensorEntry, ...], tuple[TensorEntry, ...]]:
    """Settle the shapes from what is declared and what really came, and write them back.

    Args:
        model: its inputs and outputs get the settled axes.
        samples: what it was run on.
        outputs: what it gave.
        batch: ``rows`` names axis 0 ``batch``.
    """
    names: dict[str, str] = {}
    inputs = tuple(
        _entry(value, samples[value.name].shape, batch, names) for value in model.graph.input
    )
    outs = tuple(
        _entry(value, outputs[value.name].shape, batch, names) for value in model.graph.output
    )
    return inputs, outs


def _entry(
    value: onnx.ValueInfoProto, real: tuple[int, ...], batch: str, names: dict[str, str]
) -> TensorEntry:
    dims = declared(value)
    if len(dims) != len(real):
        dims = list(real)
    shape: list[int | str] = []
    for axis, (dim, size) in enumerate(zip(dims, real, strict=True)):
        if axis == 0 and batch == "rows":
            shape.append(BATCH)
        elif isinstance(dim, int):
            shape.append(size)  # converters declare sizes that the model does not give
        else:
            # Exporters write "?" for any number of axes: that is no name they share.
            is_name = any(char.isalnum() for char in dim or "")
            shape.append(_axis_name(dim if is_name else f"{value.name}_{axis}", names))
    dtype = dtype_of(value)
    elem = value.type.tensor_type.elem_type
    value.type.CopyFrom(onnx.helper.make_tensor_type_proto(elem, shape))
    return TensorEntry(name=value.name, dtype=dtype, shape=tuple(shape))


def _axis_name(raw: str, names: dict[str, str]) -> str:
    """A name for a free axis in the manifest's alphabet; ``batch`` is kept for rows."""
    if raw in names:
        return names[raw]
    base = re.sub(r"[^a-z0-9_]+", "_", raw.lower()).strip("_")[:24] or "axis"
    base = base if base[0].isalpha() and base != BATCH else f"n_{base}"
    name, count = base, 1
    while name in names.values():
        count += 1
        name = f"{base}_{count}"
    names[raw] = name
    return name
