import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters import graph
from converters.errors import UnsupportedModelError
from converters.session import open_session
from converters.signature import declared, prove_rows, read_signature
from edged.manifest import Tolerance

ROWS = np.random.default_rng(1).normal(size=(6, 4)).astype("f4")


def model_of(nodes, inputs, outputs, weights=()):
    g = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    return helper.make_model(g, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def value(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def prove(model, samples):
    prove_rows(model, open_session(graph.serialize(model)), samples, Tolerance())


def test_rows_that_stand_alone_pass(build_linear):
    prove(build_linear(), {"x": ROWS[:, :3]})


def test_a_frozen_batch_is_refused_with_the_way_out(build_linear):
    with pytest.raises(UnsupportedModelError, match=r'input "x" .* frozen at 4 .*dynamic_shapes'):
        prove(build_linear(batch=4), {"x": ROWS[:, :3]})


def test_a_frozen_output_is_refused_by_name():
    shape = numpy_helper.from_array(np.array([2, -1], "i8"), "shape")
    model = model_of(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [value("x", ["n", 4])],
        [value("y", [2, None])],
        [shape],
    )
    with pytest.raises(UnsupportedModelError, match=r'output "y" has its batch axis frozen at 2'):
        prove(model, {"x": ROWS})


def test_rows_that_change_one_another_are_found_by_splitting():
    model = model_of(
        [helper.make_node("Softmax", ["x"], ["y"], axis=0)],
        [value("x", ["n", 4])],
        [value("y", ["n", 4])],
    )
    with pytest.raises(UnsupportedModelError, match=r'output "y" is not row-wise.*row 0 changes'):
        prove(model, {"x": ROWS})


def test_a_reshape_that_mixes_rows_is_found_though_axes_look_free():
    shape = numpy_helper.from_array(np.array([2, -1], "i8"), "shape")
    model = model_of(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [value("x", ["n", 4])],
        [value("y", ["m", "k"])],
        [shape],
    )
    with pytest.raises(UnsupportedModelError, match=r"\[2, 12\] became \[2, 2\] and \[2, 10\]"):
        prove(model, {"x": ROWS})


def test_shapes_are_settled_from_what_really_came():
    model = model_of(
        [helper.make_node("Identity", ["x"], ["y"])],
        [value("x", ["DynamicDim.0", 4, "Height?"])],
        [value("y", [None, None, "Height?"])],
    )
    samples = {"x": np.ones((6, 4, 5), "f4")}
    inputs, outputs = read_signature(model, samples, {"y": samples["x"]}, "rows")
    assert str(inputs[0].spec()) == "float32[batch,4,height]"
    assert str(outputs[0].spec()) == "float32[batch,y_1,height]"
    assert declared(model.graph.output[0]) == ["batch", "y_1", "height"]


def test_without_rows_the_own_axes_stay():
    model = model_of(
        [helper.make_node("Identity", ["x"], ["y"])],
        [value("x", ["batch", 2])],
        [value("y", [3, 2])],
    )
    samples = {"x": np.ones((3, 2), "f4")}
    inputs, outputs = read_signature(model, samples, {"y": samples["x"]}, "none")
    assert inputs[0].shape == ("n_batch", 2)
    assert outputs[0].shape == (3, 2)


def test_a_question_mark_is_no_name_that_axes_share():
    model = model_of(
        [helper.make_node("Relu", ["x"], ["y"])],
        [value("x", ["?", 3, "?", "?"])],
        [value("y", ["?", 3, "?", "?"])],
    )
    samples = {"x": np.ones((2, 3, 8, 8), "f4")}
    inputs, _outputs = read_signature(model, samples, {"y": samples["x"]}, "rows")
    assert str(inputs[0].spec()) == "float32[batch,3,x_2,x_3]"
