"""Whether every name in a graph is given once and every name that is read is given.

Files that break this are written without a word and load nowhere: an output that is called like an
inner value ("Duplicate definition of name"), a node that reads what nobody makes. Looks only.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from converters.errors import UnsupportedModelError
from converters.walk import inner_graphs


def refuse_names(graph: onnx.GraphProto) -> None:
    """Refuse a graph that no runtime can load because of its names.

    Raises:
        UnsupportedModelError: names the value and the nodes it occurs at.
    """
    _check(graph, {})


def _check(graph: onnx.GraphProto, outer: dict[str, str]) -> None:
    """Check one graph; ``outer`` says who made each value that it can see from outside."""
    made: dict[str, str] = {}
    weights = {tensor.name for tensor in graph.initializer}
    weights |= {tensor.values.name for tensor in graph.sparse_initializer}
    for value in graph.input:
        if value.name not in weights:  # old files list weights among the inputs
            _make(value.name, "an input", made, outer)
    for tensor in graph.initializer:
        _make(tensor.name, "a weight", made, outer)
    for node in graph.node:
        place = f'{node.op_type} "{node.name or next(iter(node.output), "")}"'
        for name in node.input:
            if name and name not in made and name not in outer:
                raise UnsupportedModelError(
                    f'{place} reads "{name}", which nothing before it gives: the exporter wrote '
                    "the graph out of order or lost a part; no runtime loads it"
                )
        for inner in inner_graphs(node):
            _check(inner, {**outer, **made})
        for name in node.output:
            if name:
                _make(name, place, made, outer)
    for value in graph.output:
        if value.name not in made and value.name not in outer:
            raise UnsupportedModelError(
                f'output "{value.name}" is given by nothing in the graph; no runtime loads it'
            )
    _refuse_twice("outputs", [value.name for value in graph.output])


def _make(name: str, maker: str, made: dict[str, str], outer: dict[str, str]) -> None:
    before = made.get(name) or outer.get(name)
    if before is not None:
        raise UnsupportedModelError(
            f'"{name}" is given twice, by {before} and by {maker}: an output was called like an '
            "inner value, and no runtime loads that (duplicate definition of a name). Call the "
            "output something else"
        )
    made[name] = maker


def _refuse_twice(kind: str, names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UnsupportedModelError(f'{kind}: "{twice}" occurs twice; every name must be its own')


def refuse_leftovers(model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Refuse a graph with other inputs or outputs than the framework's model has.

    Args:
        model: weights are no longer listed among its inputs.
        inputs: the framework's own, in their order.
        outputs: the same.

    Raises:
        UnsupportedModelError: lists both sides.
    """
    for kind, values, wanted in (
        ("inputs", model.graph.input, inputs),
        ("outputs", model.graph.output, outputs),
    ):
        if len(values) == len(wanted):
            continue
        listed = ", ".join(value.name for value in values) or "none"
        hint = (
            "; a layer's own numbers (a Normalization's mean and variance) became inputs that "
            "every caller would have to send"
            if kind == "inputs" and len(values) > len(wanted)
            else ""
        )
        raise UnsupportedModelError(
            f"the converted model has {len(values)} {kind} ({listed}), the framework's "
            f"{len(wanted)} ({', '.join(wanted)}){hint}"
        )
