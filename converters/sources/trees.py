"""Graphs of trees as the boosters' converters write them, brought to the form of a bundle.

Their converters stamp the lowest operator set, wrap probabilities into dictionaries (ZipMap), put
the label first and declare it of length 1. Each function here mends one of these, and none changes
a number unless it says so.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper, version_converter

from converters.errors import UnsupportedModelError
from converters.sources.base import DEFAULT_OPSET

CONVERTER_OPSET = 15
"""The highest that onnxmltools 1.16 writes; ``to_opset`` goes on from there."""
FIRST_OPSET = 9
"""What a graph of trees alone counts as: it uses no operator of the main set."""
SPLIT_TREES = 50
"""Trees of one node: sums of more lose digits in float32; the nodes' sums are added in float64."""
ML_OPSET = 3
"""ai.onnx.ml 3: the last one that every runtime in use knows."""


def to_opset(model: onnx.ModelProto, asked: int | None) -> onnx.ModelProto:
    """One import a domain, the main one as asked or DEFAULT_OPSET, ai.onnx.ml at 3 or below."""
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        versions[domain] = max(entry.version, versions.get(domain, 0))
    versions.setdefault("", FIRST_OPSET)
    if versions.get("ai.onnx.ml", 1) > ML_OPSET:
        raise UnsupportedModelError(
            f"the converter wrote ai.onnx.ml {versions['ai.onnx.ml']}; devices read up to "
            f"{ML_OPSET}: this needs an older converter"
        )
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(d, v) for d, v in sorted(versions.items()))
    return version_converter.convert_version(model, asked or DEFAULT_OPSET)


def tree_node(model: onnx.ModelProto) -> onnx.NodeProto:
    """The one node that holds the trees."""
    return next(node for node in model.graph.node if node.op_type.startswith("TreeEnsemble"))


def cut_zipmap(model: onnx.ModelProto, classes: int) -> None:
    """Take the node away that makes dictionaries of probabilities; its tensor becomes the output.

    Args:
        model: with a ZipMap at its end.
        classes: the length of the probabilities' last axis.
    """
    graph = model.graph
    zipmap = next(node for node in graph.node if node.op_type == "ZipMap")
    tensor, mapped = zipmap.input[0], zipmap.output[0]
    graph.node.remove(zipmap)
    output = next(value for value in graph.output if value.name == mapped)
    output.CopyFrom(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, ["batch", classes]))


def append_operator(model: onnx.ModelProto, operator: str) -> None:
    """Put one element-wise operator behind the first output."""
    output = model.graph.output[0]
    inner = f"{output.name}/raw"
    for node in model.graph.node:
        node.output[:] = [inner if name == output.name else name for name in node.output]
    model.graph.node.append(helper.make_node(operator, [inner], [output.name]))


def set_post_transform(model: onnx.ModelProto, transform: str) -> None:
    """What the trees' sums go through: NONE, LOGISTIC, SOFTMAX, …."""
    for attribute in tree_node(model).attribute:
        if attribute.name == "post_transform":
            attribute.s = transform.encode("ascii")


def label_last(model: onnx.ModelProto, has_label: bool) -> None:
    """Put the label behind the scores and free its axis, or drop it.

    The first output is the one that a binding shows. onnxmltools declares a label of length 1 for
    any number of rows, which ONNX Runtime warns of at every call.
    """
    graph = model.graph
    kept: list[Any] = [v for v in graph.output if v.name != "label"]
    if has_label:
        kept.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]))
    copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in kept]
    del graph.output[:]
    graph.output.extend(copies)
