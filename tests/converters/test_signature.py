import numpy as np
from onnx import TensorProto, helper

from converters.gate.rows import declared
from converters.signature import read_signature


def model_of(nodes, inputs, outputs, weights=()):
    g = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    return helper.make_model(g, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def value(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


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


def test_axes_that_the_exporter_counted_are_called_after_their_tensor():
    model = model_of(
        [helper.make_node("Relu", ["x"], ["y"])],
        [value("x", ["unk__398", "unk__399", "s77"])],
        [value("y", ["unk__400", "unk__399", "JAX2ONNX_DYNAMIC_DIM_SENTINEL"])],
    )
    samples = {"x": np.ones((2, 3, 8), "f4")}
    inputs, outputs = read_signature(model, samples, {"y": samples["x"]}, "rows")
    assert str(inputs[0].spec()) == "float32[batch,x_1,x_2]"
    assert str(outputs[0].spec()) == "float32[batch,x_1,y_2]"
