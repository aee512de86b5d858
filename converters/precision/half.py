"""From a float32 graph to one that computes in float16 where its numbers fit.

Decides which nodes stay in float32 (islands) and why: the ranges of their values on real samples,
operators that lose in float16, and all that comes before the first layer with weights, because raw
inputs (a pressure of 1013.25) need more digits than float16 has. Inputs and outputs stay float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from converters import graph
from converters.errors import ConversionError, UnsupportedModelError
from converters.gate.precision import FLOAT16_MAX
from converters.samples import spread
from converters.session import open_session
from converters.walk import inner_graphs
from edged.tensors import Array

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""What float16 makes quicker and smaller."""
HALF = frozenset(
    (
        *HEAVY,
        *("Add", "Sub", "Mul", "Div", "Neg", "Abs", "Identity", "Relu", "LeakyRelu", "PRelu"),
        *("Elu", "Selu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Erf", "Gelu"),
        *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization"),
        *("Concat", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split"),
        *("Pad", "Expand", "Tile", "Gather", "DepthToSpace", "SpaceToDepth"),
    )
)
"""Operators that keep what float16 holds. Exponentials, powers, sums over an axis and the
normalisations made of them overflow or cancel inside themselves, and stay in float32."""
HEADROOM = 2
"""Other rows than the samples may reach further."""
SMALLEST = 2.0**-14
"""Below it float16 loses digits with every halving."""
RANGE_ROWS, CHUNK_ROWS = 256, 8
"""Rows that ranges are taken from, and how many run at once."""
SPLIT = 8193.0
"""``c = x * (2**13 + 1); c - (c - x)`` keeps the 11 leading bits that float16 has (Veltkamp)."""


@dataclass(frozen=True)
class Island:
    """A node after the first layer that stays in float32."""

    node: str
    operator: str
    reason: str


@dataclass(frozen=True)
class Halved:
    """What came of it.

    Args:
        model: computes in float16; not cleaned yet.
        rounded: the same numbers in float32 with float16's rounding put in as arithmetic, because
            a CPU leaves the casts out.
        half: nodes in float16.
        nodes: all nodes.
        islands: nodes after the first layer that stay in float32.
    """

    model: onnx.ModelProto
    rounded: onnx.ModelProto
    half: int
    nodes: int
    islands: tuple[Island, ...]


def halve(model: onnx.ModelProto, samples: Mapping[str, Array]) -> Halved:
    """Find what fits and convert it.

    Args:
        model: a clean float32 graph; stays as it is.
        samples: real inputs, rows first.

    Raises:
        UnsupportedModelError: nothing in the model gains from float16.
        ConversionError: its types cannot be told, or it does not run.
    """
    try:
        typed = shape_inference.infer_shapes(model, strict_mode=False)
    except Exception as exc:
        raise ConversionError(f"the types of the graph's values cannot be told: {exc}") from exc
    floats = _floats(typed)
    reach = _measure(model, floats, samples)
    reach.update(
        (t.name, float(np.abs(numpy_helper.to_array(t)).max(initial=0.0)))
        for t in model.graph.initializer
        if t.data_type == TensorProto.FLOAT
    )
    half, islands = _choose(model, floats, reach)
    if not any(model.graph.node[index].op_type in HEAVY for index in half):
        raise UnsupportedModelError(
            f"float16 helps {', '.join(HEAVY)} with trained weights, and the model has none that "
            "fits into it: convert it with precision float32"
        )
    return Halved(
        model=_Writer(model, floats, half, emulate=False).write(),
        rounded=_Writer(model, floats, half, emulate=True).write(),
        half=len(half),
        nodes=len(model.graph.node),
        islands=tuple(islands),
    )


def _floats(typed: onnx.ModelProto) -> set[str]:
    """Names of the main graph's float32 values and weights."""
    listed = (*typed.graph.input, *typed.graph.value_info, *typed.graph.output)
    names = {v.name for v in listed if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    names.update(t.name for t in typed.graph.initializer if t.data_type == TensorProto.FLOAT)
    return names


def _measure(
    model: onnx.ModelProto, floats: set[str], samples: Mapping[str, Array]
) -> dict[str, float]:
    """The largest magnitude of every inner value; one number a value is all that is held."""
    probe = _copy(model)
    made = [name for node in model.graph.node for name in node.output if name in floats]
    del probe.graph.output[:]
    for index, name in enumerate(made):
        size, most = f"edged/abs/{index}", f"edged/most/{index}"
        probe.graph.node.append(helper.make_node("Abs", [name], [size]))
        probe.graph.node.append(helper.make_node("ReduceMax", [size], [most], keepdims=0))
        probe.graph.output.append(helper.make_tensor_value_info(most, TensorProto.FLOAT, []))
    run = open_session(graph.serialize(probe), optimise=False)
    rows = spread(len(next(iter(samples.values()))), RANGE_ROWS)
    most_of = np.zeros(len(made))
    for start in range(0, len(rows), CHUNK_ROWS):
        part = {name: array[rows[start : start + CHUNK_ROWS]] for name, array in samples.items()}
        most_of = np.fmax(most_of, [float(array) for array in run(part).values()])
    return dict(zip(made, most_of.tolist(), strict=True))


def _choose(
    model: onnx.ModelProto, floats: set[str], reach: Mapping[str, float]
) -> tuple[set[int], list[Island]]:
    """Nodes that go to float16, and those that could and do not."""
    half: set[int] = set()
    islands: list[Island] = []
    after: set[str] = set()  # values behind the first layer with weights
    weights = {tensor.name for tensor in model.graph.initializer}
    for index, node in enumerate(model.graph.node):
        reads = [name for name in node.input if name in floats]
        gives = [name for name in node.output if name in floats]
        is_layer = node.op_type in HEAVY and any(name in weights for name in node.input[1:])
        if not gives or not (is_layer or after.intersection(reads)):
            continue
        after.update(gives)
        reason = _reason(node, [*reads, *gives], reach)
        if reason:
            islands.append(Island(node.name, node.op_type, reason))
        else:
            half.add(index)
    return half, islands


def _reason(node: onnx.NodeProto, names: list[str], reach: Mapping[str, float]) -> str:
    """Why a node stays in float32; empty when it need not."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in HALF:
        return "operator that loses in float16"
    known = [reach[name] for name in names if name in reach]
    most = max(known, default=0.0)
    if most * HEADROOM > FLOAT16_MAX or not np.isfinite(most):
        return f"reaches {most:.2g}, float16 ends at {FLOAT16_MAX:g}"
    least = min((size for size in known if size), default=1.0)
    if least < SMALLEST:
        return f"a value of it is at most {least:.2g}, float16 is coarse below {SMALLEST:.2g}"
    return ""


class _Writer:
    """Writes a graph anew with some nodes in float16, or with its rounding as arithmetic."""

    def __init__(
        self, model: onnx.ModelProto, floats: set[str], half: set[int], *, emulate: bool
    ) -> None:
        self._made = _copy(model)
        self._floats = floats
        self._half = half
        self._emulate = emulate
        self._nodes: list[onnx.NodeProto] = []
        self._weights = {t.name: t for t in model.graph.initializer}
        self._new_weights: dict[str, onnx.TensorProto] = {}
        self._narrow: dict[str, str] = {}
        self._wide: dict[str, str] = {}

    def write(self) -> onnx.ModelProto:
        """The new graph; call it once."""
        target = self._made.graph
        outputs = {value.name for value in target.output}
        for index, node in enumerate(list(target.node)):
            made = onnx.NodeProto()
            made.CopyFrom(node)
            if index in self._half:
                self._write_half(made, outputs)
            else:
                self._write_full(made)
        del target.node[:]
        target.node.extend(self._nodes)
        target.initializer.extend(self._new_weights.values())
        del target.value_info[:]
        return self._made

    def _write_half(self, node: onnx.NodeProto, outputs: set[str]) -> None:
        for place, name in enumerate(node.input):
            if name in self._floats:
                node.input[place] = self._as_half(name)
        given = [(place, n) for place, n in enumerate(node.output) if n in self._floats]
        for place, name in given:
            node.output[place] = f"edged/half/{name}"
        self._nodes.append(node)
        for _, name in given:
            held = f"edged/half/{name}"
            if self._emulate:
                held = self._round(held, f"edged/rounded/{name}")
            self._narrow[name] = held
            if name in outputs:
                self._nodes.append(self._to_float32(held, name))
                self._wide[name] = name

    def _write_full(self, node: onnx.NodeProto) -> None:
        table = {name: self._as_full(name) for name in set(_reads(node)) if name in self._narrow}
        _rename(node, table)
        self._nodes.append(node)

    def _as_half(self, name: str) -> str:
        """The float16 form of a float32 value or weight, made once."""
        if name in self._narrow:
            return self._narrow[name]
        held = f"edged/narrow/{name}"
        if name in self._weights:
            with np.errstate(over="ignore"):  # a weight that overflows makes its node an island
                array = numpy_helper.to_array(self._weights[name]).astype(np.float16)
            array = array.astype(np.float32) if self._emulate else array
            self._new_weights[name] = numpy_helper.from_array(array, held)
        elif self._emulate:
            held = self._round(name, held)
        else:
            self._nodes.append(helper.make_node("Cast", [name], [held], to=TensorProto.FLOAT16))
        self._narrow[name] = held
        return held

    def _as_full(self, name: str) -> str:
        """The float32 form of a value that a float16 node gives."""
        if name in self._weights or not self._narrow[name].startswith(
            ("edged/half/", "edged/rounded/")
        ):
            return name
        if name not in self._wide:
            self._wide[name] = f"edged/wide/{name}"
            self._nodes.append(self._to_float32(self._narrow[name], self._wide[name]))
        return self._wide[name]

    def _to_float32(self, held: str, name: str) -> onnx.NodeProto:
        if self._emulate:
            return helper.make_node("Identity", [held], [name])
        return helper.make_node("Cast", [held], [name], to=TensorProto.FLOAT)

    def _round(self, name: str, rounded: str) -> str:
        factor = numpy_helper.from_array(np.float32(SPLIT), "edged/split")
        self._new_weights["/edged/split"] = factor
        large, rest = f"{rounded}/large", f"{rounded}/rest"
        self._nodes.append(helper.make_node("Mul", [name, "edged/split"], [large]))
        self._nodes.append(helper.make_node("Sub", [large, name], [rest]))
        self._nodes.append(helper.make_node("Sub", [large, rest], [rounded]))
        return rounded


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node takes, through inner graphs too."""
    yield from node.input
    for inner in inner_graphs(node):
        yield from (value.name for value in inner.output)
        for child in inner.node:
            yield from _reads(child)


def _rename(node: onnx.NodeProto, table: Mapping[str, str]) -> None:
    node.input[:] = [table.get(name, name) for name in node.input]
    for inner in inner_graphs(node):
        for value in inner.output:
            value.name = table.get(value.name, value.name)
        for child in inner.node:
            _rename(child, table)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied
