"""ONNX models of strings and bfloat16, as exporters write them, and the samples they are proven on."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

COLOURS = ("blue", "green", "red")
STEP = 2.0**-7


def save(model, path):
    path.write_bytes(model.SerializeToString())
    return path


def _model(nodes, inputs, outputs, weights=()):
    graph = helper.make_graph(nodes, "model", inputs, outputs, list(weights))
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def classifier():
    """A colour and a size in, a label and its scores out: as skl2onnx writes such a pipeline."""
    nodes = [
        helper.make_node(
            "OneHotEncoder", ["colour"], ["hot"], domain="ai.onnx.ml", cats_strings=COLOURS, zeros=1
        ),
        helper.make_node("Reshape", ["hot", "flat"], ["row"]),
        helper.make_node("Concat", ["row", "size"], ["table"], axis=1),
        helper.make_node(
            "LinearClassifier",
            ["table"],
            ["label", "scores"],
            domain="ai.onnx.ml",
            coefficients=[2.0, -1.0, 0.3, -0.8, -1.0, 2.0, 0.2, 0.1, -1.0, -1.0, -0.5, 0.7],
            intercepts=[0.1, -0.2, 0.05],
            classlabels_strings=["cold", "mild", "hot"],
            post_transform="SOFTMAX",
        ),
    ]
    inputs = [
        helper.make_tensor_value_info("colour", TensorProto.STRING, ["n", 1]),
        helper.make_tensor_value_info("size", TensorProto.FLOAT, ["n", 1]),
    ]
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.STRING, ["n"]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3]),
    ]
    flat = helper.make_tensor("flat", TensorProto.INT64, [2], [-1, 3])
    return _model(nodes, inputs, outputs, [flat])


def classifier_rows(count=24):
    source = np.random.default_rng(0)
    colours = np.array(["blue", "green", "red", "grün"])[source.integers(0, 4, count)]
    return {"colour": colours[:, None], "size": source.normal(size=(count, 1)).astype("f4")}


def translator():
    """Words in, words out: no number anywhere."""
    keys, values = [["no", "yes"], ["nein", "ja"]]
    node = helper.make_node(
        "LabelEncoder", ["word"], ["answer"], domain="ai.onnx.ml", keys_strings=keys,
        values_strings=values, default_string="?",
    )  # fmt: skip
    inputs = [helper.make_tensor_value_info("word", TensorProto.STRING, ["n", 2])]
    outputs = [helper.make_tensor_value_info("answer", TensorProto.STRING, ["n", 2])]
    return _model([node], inputs, outputs)


def half_adder(direct=False):
    """``y = x + b`` in bfloat16; computed in float32, for a processor adds no bfloat16."""
    bias = helper.make_tensor("b", TensorProto.FLOAT, [2], [0.5, -3.0])
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["wide", "b"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["y"], to=TensorProto.BFLOAT16),
    ]
    if direct:
        bias = helper.make_tensor("b", TensorProto.BFLOAT16, [2], b"\0\x3f\x40\xc0", raw=True)
        nodes = [helper.make_node("Add", ["x", "b"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.BFLOAT16, ["n", 2])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.BFLOAT16, ["n", 2])]
    return _model(nodes, inputs, outputs, [bias])


def half_rows(count=24):
    return np.random.default_rng(1).normal(size=(count, 2)).astype("f4")
