"""One form for a graph, whatever the process that wrote it: the same model gives the same bytes.

tf2onnx counts its own names up, visits some sets in the order of addresses, and of two equal
constants or nodes keeps now one, now the other. What is computed is the same; the bytes were not.
Here order and names come from the graph's own structure: nodes as the outputs ask for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onnx import numpy_helper

from converters.walk import inner_graphs

SMALL = 64
"""Elements up to which equal constants are made one: shapes, axes, factors. Larger ones are layers'
weights, and their names say the layer."""


def settle_form(model: Any) -> None:
    """Order nodes and weights by their use, and name values after their operators.

    Args:
        model: an onnx.ModelProto, changed in place; inputs and outputs keep their names.
    """
    graph = model.graph
    _join_constants(graph)
    _order_nodes(graph)
    fixed = {value.name for value in (*graph.input, *graph.output)}
    sizes = dict(_weights(graph))
    table: dict[str, str] = {}
    for name, operator in _used(graph):
        if name and name not in fixed and name not in table and sizes.get(name, 0) <= SMALL:
            table[name] = f"edged/{'constant' if name in sizes else operator}_{len(table)}"
    _rename(graph, table)
    _order_weights(graph)


def _weights(graph: Any) -> Iterator[tuple[str, int]]:
    """Names of weights, inner graphs' too, and their numbers of elements."""
    for tensor in graph.initializer:
        yield tensor.name, _elements(tensor)
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from _weights(inner)


def _elements(tensor: Any) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count


def _join_constants(graph: Any) -> None:
    """Let equal small constants of a graph be one."""
    outputs = {value.name for value in graph.output}
    first: dict[tuple[Any, ...], str] = {}
    table: dict[str, str] = {}
    for tensor in graph.initializer:
        if _elements(tensor) <= SMALL and tensor.name not in outputs:
            array = numpy_helper.to_array(tensor)
            content = array.tobytes() if array.dtype != object else repr(array.tolist())
            key = (tensor.data_type, tuple(tensor.dims), content)
            table[tensor.name] = first.setdefault(key, tensor.name)
    kept = [_copy(t) for t in graph.initializer if table.get(t.name, t.name) == t.name]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    _rename(graph, table)
    for node in graph.node:
        for inner in inner_graphs(node):
            _join_constants(inner)


def _order_nodes(graph: Any) -> None:
    """Each node after what it reads, in the order in which the outputs lead to it."""
    for node in graph.node:
        for inner in inner_graphs(node):
            _order_nodes(inner)
    nodes = [_copy(node) for node in graph.node]
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    order: dict[int, None] = {}
    begun: set[int] = set()
    # The roots lie on top in their order; a node waits below what it reads.
    waiting = [*reversed(range(len(nodes)))]  # what no output needs comes last, as it was
    waiting += [makers[v.name] for v in reversed(graph.output) if v.name in makers]
    while waiting:
        index = waiting[-1]
        if index in order or index in begun:
            order.setdefault(waiting.pop())
            continue
        begun.add(index)
        reads = (makers.get(name) for name in _reads(nodes[index]))
        waiting += reversed([r for r in reads if r is not None and r not in order])
    del graph.node[:]
    graph.node.extend(nodes[index] for index in order)


def _reads(node: Any) -> Iterator[str]:
    """What a node takes from its graph, through inner graphs too; some names may be theirs."""
    yield from node.input
    for inner in inner_graphs(node):
        yield from (name for name, _ in _used(inner))
        yield from (value.name for value in inner.output)


def _used(graph: Any) -> Iterator[tuple[str, str]]:
    """Every name in the order of its use, and the operator that it is used by or made by."""
    for node in graph.node:
        yield from ((name, node.op_type) for name in node.input)
        for inner in inner_graphs(node):
            yield from ((value.name, node.op_type) for value in inner.input)
            yield from _used(inner)
            yield from ((value.name, node.op_type) for value in inner.output)
        yield from ((name, node.op_type) for name in node.output)


def _rename(graph: Any, table: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = table.get(value.name, value.name)
    del graph.value_info[:]
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [table.get(name, name) for name in names]
        for inner in inner_graphs(node):
            _rename(inner, table)


def _order_weights(graph: Any) -> None:
    order: dict[str, int] = {}
    for name, _ in _used(graph):
        order.setdefault(name, len(order))
    last = len(order)
    copies = [_copy(tensor) for tensor in graph.initializer]
    copies.sort(key=lambda tensor: (order.get(tensor.name, last), tensor.name))
    del graph.initializer[:]
    graph.initializer.extend(copies)
    for node in graph.node:
        for inner in inner_graphs(node):
            _order_weights(inner)


def _copy(message: Any) -> Any:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied
