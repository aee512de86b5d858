import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters import graph
from converters.errors import UnsupportedModelError
from converters.gate.precision import has_float16, measure_ranges, refuse_overflow
from converters.session import open_session

ROWS = {"x": np.array([[1, 2, 3], [-4, 5, 6]], "f4")}


def half_model(factor, *, islands=False):
    """``y = (x * factor) / factor`` in float16 between casts: right on a CPU whatever the factor."""
    to = TensorProto.FLOAT if islands else TensorProto.FLOAT16
    kind = "f4" if islands else "f2"
    g = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["half"], to=to, name="in"),
            helper.make_node("Mul", ["half", "k"], ["big"], name="scale_up"),
            helper.make_node("Div", ["big", "k"], ["small"], name="scale_down"),
            helper.make_node("Cast", ["small"], ["y"], to=TensorProto.FLOAT, name="out"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.array(factor, kind), "k")],
    )
    return helper.make_model(g, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_an_overflow_that_the_cpu_hides_is_found():
    model = half_model(30000)
    # The control: the CPU gives fine numbers for a graph that is inf in float16.
    got = open_session(graph.serialize(model))(ROWS)["y"]
    np.testing.assert_allclose(got, ROWS["x"], rtol=1e-2)
    with np.errstate(over="ignore"):
        assert np.isinf(ROWS["x"].astype("f2") * np.float16(30000)).any()
    with pytest.raises(UnsupportedModelError, match=r'1 of 3 values: Mul "scale_up" reaches 1.8e'):
        refuse_overflow(model, ROWS)


def test_what_fits_passes_with_its_range():
    ranges = refuse_overflow(half_model(8), ROWS)
    assert (ranges[0].operator, ranges[0].largest) == ("Mul", 48.0)
    assert refuse_overflow(half_model(30000, islands=True), ROWS) == ()


def test_float16_inputs_and_constants_are_found_too():
    g = helper.make_graph(
        [helper.make_node("Mul", ["x", "x"], ["y"], name="square")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["n", 3])],
    )
    model = helper.make_model(g, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    assert has_float16(model)
    rows = {"x": np.full((2, 3), 300, "f2")}
    assert measure_ranges(model, rows)[0].largest == 90000.0
    with pytest.raises(UnsupportedModelError, match="square"):
        refuse_overflow(model, rows)


def test_infinities_that_are_meant_are_no_overflow():
    g = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
            helper.make_node("Add", ["half", "mask"], ["masked"]),
            helper.make_node("Softmax", ["masked"], ["p"]),
            helper.make_node("Cast", ["p"], ["y"], to=TensorProto.FLOAT),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.array([0, -np.inf, 0], "f2"), "mask")],
    )
    model = helper.make_model(g, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    assert refuse_overflow(model, ROWS)[0].largest < 10
