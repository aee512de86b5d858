"""Going through an ONNX graph: every node, every inner graph. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of inner graphs (If, Loop, Scan) too."""
    return all_nodes(graph.node)


def all_nodes(body: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """As ``nodes``, of a graph's or a function's list."""
    for node in body:
        yield node
        for inner in inner_graphs(node):
            yield from all_nodes(inner.node)


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph itself and every inner one."""
    yield graph
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from graphs(inner)


def stored_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of numbers: weights, and constants in attributes, those of functions too."""
    for graph in graphs(model.graph):
        yield from graph.initializer
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    for body in bodies:
        for node in all_nodes(body):
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


WORD_LISTS = {"keys_strings", "cats_strings", "pool_strings", "string_vocabulary", "keys_tensor"}
"""Attributes that hold what comes in, not what goes out."""


def known_words(model: onnx.ModelProto) -> set[bytes]:
    """The strings that a graph compares its inputs with, as far as they stand in it."""
    found: set[bytes] = set()
    for graph in graphs(model.graph):
        for tensor in graph.initializer:
            found.update(tensor.string_data)
    for node in nodes(model.graph):
        for attribute in node.attribute:
            if attribute.name in WORD_LISTS:
                found.update(attribute.strings)
            if attribute.name in WORD_LISTS or node.op_type == "Constant":
                found.update(attribute.t.string_data)
    return found
