"""Whether numbers fit into float16: on the CPU they always seem to.

ONNX Runtime's CPU provider computes float16 nodes in float32, so a graph that overflows on a GPU
gives fine numbers here. The model is therefore run once more with every float16 value as float32,
and the largest magnitude of each is held against what float16 can hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper, shape_inference

from converters import graph
from converters.errors import ConversionError, UnsupportedModelError
from converters.session import open_session
from converters.walk import graphs, nodes
from edged.tensors import Array

FLOAT16_MAX = 65504.0
ROWS = 16
"""Rows that are run: every value of the graph is held for them at once."""
OUTPUTS_AT_ONCE = 64
"""Inner values that one run gives: bounds the memory of a deep network."""


@dataclass(frozen=True)
class Range:
    """The largest magnitude of one value on the samples.

    Args:
        node: the node that gives it.
        operator: that node's operator.
        largest: of all its numbers that are finite in float32.
    """

    node: str
    operator: str
    largest: float


def has_float16(model: onnx.ModelProto) -> bool:
    """Whether anything in the graph is computed or kept in float16."""
    weights = any(
        t.data_type == TensorProto.FLOAT16 for g in graphs(model.graph) for t in g.initializer
    )
    values = (*model.graph.input, *model.graph.output)
    outside = any(v.type.tensor_type.elem_type == TensorProto.FLOAT16 for v in values)
    return weights or outside or any(_casts_to_half(node) for node in nodes(model.graph))


def refuse_overflow(model: onnx.ModelProto, samples: Mapping[str, Array]) -> tuple[Range, ...]:
    """Refuse a model with a float16 value that would overflow on hardware that means it.

    Args:
        model: as it will be packed.
        samples: real inputs, rows first.

    Returns:
        The ranges of all float16 values, largest first; empty for a model without float16.

    Raises:
        UnsupportedModelError: names the node, and how far it is beyond.
        ConversionError: the float32 twin does not run, so nothing can be said.
    """
    if not has_float16(model):
        return ()
    ranges = measure_ranges(model, samples)
    worst = ranges[0] if ranges else None
    if worst is not None and worst.largest > FLOAT16_MAX:
        count = sum(entry.largest > FLOAT16_MAX for entry in ranges)
        raise UnsupportedModelError(
            f"float16 overflows at {count} of {len(ranges)} values: {worst.operator} "
            f'"{worst.node}" '
            f"reaches {worst.largest:.4g} on the samples, float16 ends at {FLOAT16_MAX:g}. A CPU "
            "hides it (it computes float16 in float32), a GPU gives inf or NaN. Keep those nodes "
            "in float32, or scale the values down"
        )
    return ranges


def measure_ranges(model: onnx.ModelProto, samples: Mapping[str, Array]) -> tuple[Range, ...]:
    """The ranges of all values that are float16 in the model, largest first."""
    halves = _half_values(model)
    twin = _as_float32(model)
    few = {
        name: array[:ROWS].astype(np.float32) if array.dtype == np.float16 else array[:ROWS]
        for name, array in samples.items()
    }
    found: list[Range] = []
    for start in range(0, len(halves), OUTPUTS_AT_ONCE):
        part = halves[start : start + OUTPUTS_AT_ONCE]
        for (name, node), array in zip(part, _run_for(twin, part, few), strict=True):
            finite = np.abs(array[np.isfinite(array)])
            largest = float(finite.max()) if finite.size else 0.0
            found.append(Range(node.name or name, node.op_type, largest))
    return tuple(sorted(found, key=lambda entry: -entry.largest))


def _half_values(model: onnx.ModelProto) -> list[tuple[str, onnx.NodeProto]]:
    """Outputs of nodes of the main graph that are float16, with their nodes."""
    try:
        typed = shape_inference.infer_shapes(model, strict_mode=False)
    except Exception as exc:
        raise ConversionError(f"the types of the graph's values cannot be told: {exc}") from exc
    values = (*typed.graph.value_info, *typed.graph.output)
    half = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    return [(name, node) for node in model.graph.node for name in node.output if name in half]


def _as_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with float32 wherever it says float16."""
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    for inner in graphs(twin.graph):
        for value in (*inner.input, *inner.output, *inner.value_info):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        for tensor in inner.initializer:
            _widen(tensor)
        for node in inner.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    _widen(attribute.t)
                if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT16:
                    attribute.i = TensorProto.FLOAT
    return twin


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT16:
        wide = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))


def _run_for(
    twin: onnx.ModelProto, part: Sequence[tuple[str, onnx.NodeProto]], rows: Mapping[str, Array]
) -> list[Array]:
    probe = onnx.ModelProto()
    probe.CopyFrom(twin)
    del probe.graph.output[:]
    for name, _node in part:
        probe.graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    got = open_session(graph.serialize(probe), optimise=False)(rows)
    return [got[name] for name, _node in part]


def _casts_to_half(node: onnx.NodeProto) -> bool:
    return any(
        (a.name in ("to", "dtype") and a.i == TensorProto.FLOAT16)
        or (a.HasField("t") and a.t.data_type == TensorProto.FLOAT16)
        for a in node.attribute
    )
