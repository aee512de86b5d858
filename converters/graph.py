"""One clean form for every ONNX graph: what is in it, in which opset, under which names.

Decides what a bundle's graph may hold and makes it the same bytes everywhere: no metadata, no stack
traces, no process-dependent names, nothing unused. Never changes what is computed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx
from onnx import helper, inliner

from converters.errors import ConversionError, UnsupportedModelError
from converters.gate.names import refuse_names
from converters.gate.operators import refuse_operators
from converters.naming import rename as rename  # noqa: PLC0414  (graphs are cleaned and renamed)
from converters.sources.base import Remedy
from converters.targets.table import DEFAULT_OPSET, DEFAULT_TARGET, TARGETS, Target
from converters.walk import all_nodes, inner_graphs, nodes
from edged.tensors import ALL_DTYPES

MAX_BYTES = 2**31 - 1
"""A protobuf message ends there."""
MAX_NODES = 200_000
"""After unfolding: the largest models that fit 2 GiB have some ten thousand."""
_SPECIAL = {onnx.TensorProto.STRING: "string", onnx.TensorProto.BFLOAT16: "bfloat16"}
"""What NumPy has no numbers for."""
MAX_CALLS = 100
"""As deep as onnx itself follows functions that call functions."""


def parse(data: bytes) -> onnx.ModelProto:
    """Read a model whose weights are inside.

    Raises:
        ConversionError: not an ONNX file.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as exc:
        raise ConversionError(f"not an ONNX file: {exc}") from exc
    if not model.graph.output:
        raise ConversionError("not an ONNX file, or one without outputs")
    return model


def clean(
    model: onnx.ModelProto, opset: int | None, target: Target = TARGETS[DEFAULT_TARGET]
) -> onnx.ModelProto:
    """Bring a graph to the one form.

    Args:
        model: changed in place where it can be.
        opset: the operator set that was asked for; None takes the one it has.
        target: the device that must read it.

    Raises:
        UnsupportedModelError: an operator, type or mode that a bundle cannot carry, by name.
        ConversionError: not the opset that was asked for.
    """
    model = inline(model)
    _drop_initializer_inputs(model.graph)
    refuse_names(model.graph)
    refuse_types(model.graph)
    settle_opset(model, opset, target)
    refuse_operators(model, target)
    prune(model.graph)
    _strip(model)
    model.ir_version = min(max(model.ir_version, 8), target.max_ir)
    return model


def inline(model: onnx.ModelProto) -> onnx.ModelProto:
    """Put the bodies of a model's own functions where they are called.

    Raises:
        UnsupportedModelError: they call one another in a ring, or stand for too many nodes.
    """
    if not model.functions:
        return model
    _count_inlined(model)
    return inliner.inline_local_functions(model)


def _count_inlined(model: onnx.ModelProto) -> None:
    """Some lines of functions that call each other twice stand for billions of nodes."""
    bodies = {(f.domain, f.name): f.node for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    waiting: list[tuple[str, str]] = []

    def size(body: Iterable[onnx.NodeProto]) -> int:
        total = 0
        for node in body:
            key = (node.domain, node.op_type)
            if key not in bodies:
                total += 1
            elif key in waiting:
                raise UnsupportedModelError(
                    f'the model\'s function "{key[1]}" calls itself, which no runtime can unfold'
                )
            else:
                if key not in sizes:
                    if len(waiting) == MAX_CALLS:
                        raise UnsupportedModelError(
                            f"the model's functions call one another over {MAX_CALLS} deep; export "
                            "it without them"
                        )
                    waiting.append(key)
                    sizes[key] = size(all_nodes(bodies[key]))
                    waiting.pop()
                total += sizes[key]
            if total > MAX_NODES:
                raise UnsupportedModelError(
                    f"the model's functions stand for over {MAX_NODES} nodes; export it "
                    "without them"
                )
        return total

    size(nodes(model.graph))


def find_remedies(model: onnx.ModelProto) -> tuple[Remedy, ...]:
    """The traps that ``clean`` and the final names repair, told before they are gone."""
    found = []
    domains = ["" if e.domain == "ai.onnx" else e.domain for e in model.opset_import]
    if len(domains) != len(set(domains)):
        what = "a set of operators was imported twice, which some parsers refuse; it is now once"
        found.append(Remedy(trap="opset-twice", what=what))
    weights = {tensor.name for tensor in model.graph.initializer}
    if any(value.name in weights for value in model.graph.input):
        what = "weights were listed among the inputs, where a client could replace them; taken out"
        found.append(Remedy(trap="weights-as-inputs", what=what))
    return tuple(found)


def settle_opset(model: onnx.ModelProto, asked: int | None, target: Target) -> None:
    """One import a domain, and the main one as asked: exporters ignore the wish silently."""
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        versions[domain] = max(entry.version, versions.get(domain, 0))
    used = {node.domain for node in nodes(model.graph)} - {"ai.onnx"}
    got = versions.setdefault("", asked or 1)
    if asked is not None and got != asked:
        raise ConversionError(
            f"opset {asked} was asked for, the exporter wrote opset {got}; ask for --opset {got}"
        )
    for domain, name, highest in (
        ("", "opset", target.max_opset),
        ("ai.onnx.ml", "ai.onnx.ml opset", target.max_ml_opset),
    ):
        if versions.get(domain, 0) > highest:
            raise UnsupportedModelError(
                f"{name} {versions[domain]} is above {highest}, the highest that {target.title} "
                f"(ONNX Runtime {target.onnxruntime}) reads; export the model with a lower one, "
                f"or say --opset {DEFAULT_OPSET}"
            )
    del model.opset_import[:]
    for domain in sorted(versions):
        if domain == "" or domain in used:
            model.opset_import.append(helper.make_opsetid(domain, versions[domain]))


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the main operator set."""
    return next(int(entry.version) for entry in model.opset_import if entry.domain == "")


def refuse_types(graph: onnx.GraphProto) -> None:
    """Refuse inputs and outputs that are not tensors of what a client can send.

    Raises:
        UnsupportedModelError: names the input or output and what it is.
    """
    for kind, values in (("input", graph.input), ("output", graph.output)):
        for value in values:
            which = value.type.WhichOneof("value")
            if which != "tensor_type":
                raise UnsupportedModelError(
                    f'{kind} "{value.name}" is a {(which or "value").removesuffix("_type")}, not '
                    "a tensor; export the model so that it takes and gives plain tensors"
                )
            dtype_of(value)


def dtype_of(value: onnx.ValueInfoProto) -> str:
    """The dtype's name in our words.

    Raises:
        UnsupportedModelError: one that no client can send.
    """
    elem = value.type.tensor_type.elem_type
    name = _SPECIAL.get(elem) or (
        str(helper.tensor_dtype_to_np_dtype(elem)) if elem else "undefined"
    )
    if name not in ALL_DTYPES:
        wanted = onnx.TensorProto.DataType.Name(elem)
        raise UnsupportedModelError(
            f'"{value.name}" has the type {wanted}; clients send one of {", ".join(ALL_DTYPES)}: '
            "cast it inside the model"
        )
    return name


def prune(graph: onnx.GraphProto) -> None:
    """Drop nodes and weights that no output needs."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(_reads(node))
    kept.reverse()
    copies = [_copy(node) for node in kept]
    del graph.node[:]
    graph.node.extend(copies)
    weights = [_copy(tensor) for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names a node takes from its graph, through inner graphs too (a superset is fine)."""
    names = set(node.input)
    for inner in inner_graphs(node):
        names.update(value.name for value in inner.output)
        for child in inner.node:
            names |= _reads(child)
    return names


def _copy(message: Any) -> Any:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied


def _drop_initializer_inputs(graph: onnx.GraphProto) -> None:
    """Old files list weights among the inputs, where a client could replace them."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [_copy(value) for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)


def _strip(model: onnx.ModelProto) -> None:
    """Drop whatever tells of the machine or the process: paths, stack traces, counters."""
    for field in ("producer_name", "producer_version", "domain", "doc_string", "model_version"):
        model.ClearField(field)
    del model.metadata_props[:]
    _strip_graph(model.graph)
    model.graph.name = "model"


def _strip_graph(graph: onnx.GraphProto) -> None:
    graph.ClearField("doc_string")
    for field in ("value_info", "metadata_props", "quantization_annotation"):
        if field in graph.DESCRIPTOR.fields_by_name:
            graph.ClearField(field)
    for message in (*graph.initializer, *graph.input, *graph.output):
        message.ClearField("doc_string")
        if "metadata_props" in message.DESCRIPTOR.fields_by_name:
            message.ClearField("metadata_props")
    counts: dict[str, int] = {}
    for node in graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
        counts[node.op_type] = counts.get(node.op_type, -1) + 1
        node.name = f"{node.op_type}_{counts[node.op_type]}"
        for inner in inner_graphs(node):
            _strip_graph(inner)


def serialize(model: onnx.ModelProto) -> bytes:
    """The model's bytes, the same for the same graph.

    Raises:
        UnsupportedModelError: over the size of a protobuf message.
    """
    try:
        data = bytes(model.SerializeToString(deterministic=True))
    except ValueError as exc:
        raise UnsupportedModelError(
            "the model is over 2 GiB, which one ONNX file cannot hold"
        ) from exc
    if len(data) > MAX_BYTES:
        raise UnsupportedModelError("the model is over 2 GiB, which one ONNX file cannot hold")
    return data
