"""Names in a graph: those the user knows outside, the same ones on every machine inside.

Exporters count values across the whole process (``unk__398``, ``val_12``), so that two exports of
one model differ byte for byte; inner values are named after their nodes instead, in order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import onnx
from onnx import helper

from converters.errors import ConversionError
from converters.walk import graphs, inner_graphs

COUNTED = re.compile(r"(__\d+|:\d+|[./_]\d{3,}|^\d+|^(val|t|node|tmp|unk|v|const)_?\d+)$")
"""Weights whose names end in an exporter's counter; others are the user's own and stay."""


def rename(model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Give inputs and outputs their final names; inner values that hold one of them give way.

    Exporters write a file that no runtime loads when a wanted name is also an inner value's, so
    they export under neutral names and this comes after.

    Raises:
        ConversionError: a number of names that is not the model's, or a name twice.
    """
    graph = model.graph
    new = [*inputs, *outputs]
    if len(graph.input) != len(inputs) or len(graph.output) != len(outputs):
        raise ConversionError(
            f"the model has inputs {_names(graph.input)} and outputs {_names(graph.output)}; "
            f"names given: {list(inputs)} and {list(outputs)}"
        )
    twice = next((name for name in new if new.count(name) > 1), None)
    if twice is not None or not all(re.fullmatch(r"[!-~]{1,256}", name) for name in new):
        raise ConversionError(
            f"names of inputs and outputs must be plain ASCII and differ from one another: {new}"
        )
    _split_passed_through(graph)
    clashes = sorted(_all_names(graph) & set(new))
    table = {name: f"edged/{index}" for index, name in enumerate(clashes)}
    for value, name in zip(graph.output, outputs, strict=True):
        table[value.name] = name
    for value, name in zip(graph.input, inputs, strict=True):
        table[value.name] = name
    _apply(graph, table)


def name_inner_values(model: onnx.ModelProto) -> None:
    """Name every inner value after its node and every counted weight by its place.

    Node names must be settled and all names of the graph differ; inputs and outputs keep theirs.
    """
    outside = {value.name for value in (*model.graph.input, *model.graph.output)}
    kept = {t.name for g in graphs(model.graph) for t in g.initializer if not _is_counted(t.name)}
    taken = outside | kept
    table: dict[str, str] = {}
    for number, graph in enumerate(graphs(model.graph)):
        prefix = f"g{number}/" if number else ""
        for value in graph.input if number else ():
            table.setdefault(value.name, _free(f"{prefix}in{len(table)}", taken))
        for index, tensor in enumerate(graph.initializer):
            if _is_counted(tensor.name) and tensor.name not in outside:
                table.setdefault(tensor.name, _free(f"{prefix}weight_{index}", taken))
        for node in graph.node:
            for index, name in enumerate(node.output):
                if name and name not in outside:
                    suffix = f".{index}" if index else ""
                    table.setdefault(name, _free(f"{prefix}{node.name}{suffix}", taken))
    _apply(model.graph, table)


def _is_counted(name: str) -> bool:
    return COUNTED.search(name) is not None


def _free(name: str, taken: set[str]) -> str:
    wanted, count = name, 0
    while name in taken:
        count += 1
        name = f"{wanted}~{count}"
    taken.add(name)
    return name


def _names(values: Sequence[onnx.ValueInfoProto]) -> list[str]:
    return [value.name for value in values]


def _split_passed_through(graph: onnx.GraphProto) -> None:
    """An input or weight that is an output as it is needs a node of its own to be renamed."""
    fixed = {value.name for value in graph.input} | {t.name for t in graph.initializer}
    for index, value in enumerate(graph.output):
        if value.name in fixed:
            name = f"edged/out{index}"
            graph.node.append(helper.make_node("Identity", [value.name], [name]))
            value.name = name


def _all_names(graph: onnx.GraphProto) -> set[str]:
    names = {value.name for value in (*graph.input, *graph.output)}
    names.update(tensor.name for tensor in graph.initializer)
    for node in graph.node:
        names.update(node.input)
        names.update(node.output)
        for inner in inner_graphs(node):
            names |= _all_names(inner)
    return names


def _apply(graph: onnx.GraphProto, table: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = table.get(value.name, value.name)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [table.get(name, name) for name in names]
        for inner in inner_graphs(node):
            _apply(inner, table)
