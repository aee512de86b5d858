"""Names of free axes, and the proof that they are free."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.errors import UnsupportedModelError
from converters.signature import declared
from converters.sources.axes import name_axes, prove_axes

TOKENS = {"tokens": np.random.default_rng(0).normal(size=(4, 6)).astype("f4")}


def build(inside, outside, nodes, weights=()):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, inside)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, outside)],
        list(weights),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def double(inside=("batch", "time"), outside=("batch", "time")):
    return build(inside, outside, [helper.make_node("Add", ["in", "in"], ["out"])])


@pytest.mark.parametrize(
    ("inside", "outside", "named"),
    [
        (("s77", "s5"), ("s77", "2*s5"), [["batch", "tokens_1"], ["batch", ""]]),
        (("unk__3", "unk__4"), ("unk__3", "unk__4"), [["batch", "tokens_1"]] * 2),
    ],
)
def test_counted_axes_are_named_after_the_input(inside, outside, named):
    model = double(inside, outside)
    assert name_axes(model, TOKENS)
    assert [declared(model.graph.input[0]), declared(model.graph.output[0])] == named


def test_names_that_people_gave_stay():
    model = double(("rows", "s"), ("rows", "s"))
    assert not name_axes(model, TOKENS)
    assert declared(model.graph.input[0]) == ["rows", "s"]


def test_a_free_axis_is_run_at_another_size():
    sizes = []

    def call(inputs):
        sizes.append(inputs["tokens"].shape)
        return {"out": inputs["tokens"] * 2}

    assert prove_axes(double(), call, TOKENS) == []
    assert sizes == [(2, 3)]
    assert prove_axes(double(("batch", 6), ("batch", 6)), call, TOKENS) == []
    assert len(sizes) == 1  # nothing is free, nothing is run


def test_an_output_declared_at_the_examples_length_is_corrected():
    model = double(outside=("batch", 6))
    assert not prove_axes(model, lambda x: {"out": x["tokens"] * 2}, TOKENS)
    assert declared(model.graph.output[0]) == ["batch", "time"]


def test_an_output_axis_that_nothing_moves_is_declared():
    model = double(("batch", 6), ("batch", ""))
    assert not prove_axes(model, lambda x: {"out": x["tokens"] * 2}, TOKENS)
    assert declared(model.graph.output[0]) == ["batch", 6]


def test_a_baked_in_size_is_refused():
    six = numpy_helper.from_array(np.array([0, 6], "i8"), "shape")
    nodes = [
        helper.make_node("Reshape", ["in", "shape"], ["flat"]),
        helper.make_node("Add", ["flat", "flat"], ["out"]),
    ]
    model = build(("batch", "time"), ("batch", "time"), nodes, [six])
    with pytest.raises(UnsupportedModelError, match='axis 1 of input "tokens" is free in name'):
        prove_axes(model, lambda x: {"out": x["tokens"] * 2}, TOKENS)
    with pytest.raises(UnsupportedModelError, match="other numbers come out"):
        prove_axes(double(), lambda x: {"out": x["tokens"] * 3}, TOKENS)


def test_a_model_that_needs_its_size_is_reported_not_refused():
    def call(_inputs):
        raise ValueError("six or nothing")

    assert prove_axes(double(), call, TOKENS) == [
        'axis 1 of "tokens" was not tested: the model fails at 3'
    ]
