"""Going through an ONNX graph: every node, every inner graph. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterator

import onnx


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of inner graphs (If, Loop, Scan) too."""
    for node in graph.node:
        yield node
        for inner in inner_graphs(node):
            yield from nodes(inner)


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
