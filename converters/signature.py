"""The signature that a bundle promises: names, dtypes, named axes, from what is declared and came.

Decides what a free axis is called. Whether axis 0 is the row axis is proven in ``gate/rows.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import onnx

from converters.gate.rows import declared, refuse_frozen
from converters.graph import dtype_of
from edged.manifest import TensorEntry
from edged.tensors import BATCH, Array

__all__ = ["declared", "read_signature", "refuse_frozen"]

COUNTED = re.compile(
    r"^(unk__\d+|[su]\d+|dynamic_?dim\w*[._]?\d*|JAX2ONNX\w*|_?\d+)$", re.IGNORECASE
)
"""Names of axes that count within the exporter's process: another one gives others."""


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
            own = f"{value.name}_{axis}"
            # Exporters write "?" for any number of axes: that is no name they share.
            shared = dim if any(char.isalnum() for char in dim or "") else own
            shape.append(_axis_name(shared, own if COUNTED.match(shared) else shared, names))
    dtype = dtype_of(value)
    elem = value.type.tensor_type.elem_type
    value.type.CopyFrom(onnx.helper.make_tensor_type_proto(elem, shape))
    return TensorEntry(name=value.name, dtype=dtype, shape=tuple(shape))


def _axis_name(raw: str, text: str, names: dict[str, str]) -> str:
    """A name for a free axis in the manifest's alphabet; ``batch`` is kept for rows.

    Args:
        raw: the graph's name of the axis; axes of one name have one length.
        text: what to call it.
        names: those given so far, by raw name.
    """
    if raw in names:
        return names[raw]
    base = re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_")[:24] or "axis"
    base = base if base[0].isalpha() and base != BATCH else f"n_{base}"
    name, count = base, 1
    while name in names.values():
        count += 1
        name = f"{base}_{count}"
    names[raw] = name
    return name
