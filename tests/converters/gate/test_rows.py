import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters import graph
from converters.errors import UnsupportedModelError
from converters.gate.rows import largest_batch, prove_rows
from converters.session import open_session
from edged.manifest import Tolerance

ROWS = np.random.default_rng(1).normal(size=(6, 4)).astype("f4")


def model_of(nodes, inputs, outputs, weights=()):
    g = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    return helper.make_model(g, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def value(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def prove(model, samples):
    return prove_rows(model, open_session(graph.serialize(model)), samples, Tolerance())


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
    with pytest.raises(UnsupportedModelError, match=r"32 rows gave shape \[2, 64\]"):
        prove(model, {"x": ROWS})


def test_the_sizes_are_one_two_three_pairs_and_the_most_a_device_runs(build_linear):
    assert prove(build_linear(), {"x": ROWS[:, :3]})[0] == (1, 2, 3, 4, 32)
    # Two samples are enough: they are repeated.
    assert prove(build_linear(), {"x": ROWS[:2, :3]})[0][-1] == 32


def test_pictures_are_run_eight_at_once():
    assert largest_batch({"x": np.zeros((2, 3, 224, 224), "f4")}) == 8
    assert largest_batch({"x": np.zeros((2, 4), "f4")}) == 32


def reshaped(*shape):
    """A model that goes through a hard-coded shape inside, though its ends are free."""
    return model_of(
        [
            helper.make_node("Reshape", ["x", "pairs"], ["h"]),
            helper.make_node("ReduceSum", ["h", "last"], ["s"], keepdims=1),
            helper.make_node("Add", ["s", "h"], ["a"]),
            helper.make_node("Reshape", ["a", "back"], ["y"]),
        ],
        [value("x", ["n", 4])],
        [value("y", ["n", 4])],
        [
            numpy_helper.from_array(np.array(shape, "i8"), "pairs"),
            numpy_helper.from_array(np.array([1], "i8"), "last"),
            numpy_helper.from_array(np.array([-1, 4], "i8"), "back"),
        ],
    )


def test_a_hard_coded_batch_inside_is_found_though_both_ends_are_free():
    """``view(2, -1)``: right for two rows only; the file loads and answers for four."""
    with pytest.raises(UnsupportedModelError, match=r'output "y" is not row-wise'):
        prove(reshaped(2, -1), {"x": ROWS})


def test_a_batch_of_one_taken_for_a_constant_is_found():
    with pytest.raises(UnsupportedModelError, match=r'output "y" is not row-wise'):
        prove(reshaped(1, -1), {"x": ROWS})


def test_another_answer_each_time_is_found():
    noisy = model_of(
        [
            helper.make_node("RandomNormalLike", ["x"], ["noise"], scale=1e-7),
            helper.make_node("Add", ["x", "noise"], ["y"]),
        ],
        [value("x", ["n", 4])],
        [value("y", ["n", 4])],
    )
    with pytest.raises(UnsupportedModelError, match='output "y" is another one each time'):
        prove(noisy, {"x": ROWS})
