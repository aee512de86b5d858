"""ONNX Runtime as the converter uses it: one thread, its errors in one line, its optimiser optional."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters import session
from converters.errors import ConversionError
from converters.session import open_session, write_optimised

ROWS = np.random.default_rng(0).normal(size=(5, 3)).astype("f4")


def test_outputs_come_by_name_in_the_models_order(build_linear):
    model = build_linear()
    model.graph.output.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["n", 2]))
    got = open_session(model.SerializeToString())({"x": ROWS})
    assert list(got) == ["y", "h"]
    np.testing.assert_allclose(got["y"] - got["h"], [[0.5, -0.5]] * 5, rtol=1e-6)


def test_one_thread_and_no_words_on_the_terminal(build_linear, capfd):
    options = session._options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    model = build_linear()
    del model.graph.output[0].type.tensor_type.shape.dim[:]  # it warns of shapes that differ
    model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=9)
    open_session(model.SerializeToString())({"x": ROWS})
    assert capfd.readouterr().err == ""


def test_what_does_not_load_is_told_in_one_line():
    with pytest.raises(ConversionError, match="does not load the converted model") as caught:
        open_session(b"\x08\x07")
    assert "\n" not in caught.value.message


def test_what_does_not_run_names_the_shapes(build_linear):
    run = open_session(build_linear().SerializeToString())
    with pytest.raises(ConversionError, match=r"does not run the model on x \[5, 2\]") as caught:
        run({"x": ROWS[:, :2]})
    assert "\n" not in caught.value.message


def folded():
    """``y = x * (2 + 1)``: the sum is known before any row."""
    nodes = [
        helper.make_node("Add", ["two", "one"], ["three"]),
        helper.make_node("Mul", ["x", "three"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.float32(n).reshape(1), w) for n, w in ((2, "two"), (1, "one"))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_what_is_known_before_any_row_is_folded(tmp_path):
    write_optimised(folded().SerializeToString(), tmp_path / "m.onnx")
    written = onnx.load(tmp_path / "m.onnx")
    assert [node.op_type for node in written.graph.node] == ["Mul"]
    got = open_session((tmp_path / "m.onnx").read_bytes())({"x": ROWS})["y"]
    np.testing.assert_array_equal(got, ROWS * np.float32(3))


def test_the_reference_of_an_onnx_source_runs_as_it_is_written(monkeypatch):
    levels = []
    honest = session._load
    monkeypatch.setattr(
        session,
        "_load",
        lambda model, options: (
            levels.append(options.graph_optimization_level) or honest(model, options)
        ),
    )
    model = folded().SerializeToString()
    results = [open_session(model, optimise=wanted)({"x": ROWS})["y"] for wanted in (True, False)]
    np.testing.assert_array_equal(*results)
    off = session.ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert [level == off for level in levels] == [False, True]
