import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters import graph
from converters.errors import UnsupportedModelError
from converters.precision.quantize import TENSORRT, prepare, quantize
from converters.precision.ranges import measure_ranges
from converters.session import open_session
from converters.targets.table import TARGETS

ROOT = Path(__file__).resolve().parents[3]
CHILD = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, {tests!r})
from test_quantize import make
print(make(Path(sys.argv[1]))[1])
"""


def make(folder):
    """The int8 network of the fixture's folder, and the digest of its bytes."""
    rows = np.load(folder / "calibration.npz")["image"]
    model = prepare((folder / "net.onnx").read_bytes())
    found = measure_ranges(model, lambda n: iter([{"image": rows[:n]}, {"image": rows[n:]}]))
    made = quantize(model, found, TARGETS["cpu"])
    return made, hashlib.sha256(graph.serialize(made)).hexdigest()


def test_activations_are_uint8_and_weights_int8_with_a_scale_a_channel(net):
    made, _ = make(net)
    weights = {t.name: t for t in made.graph.initializer}
    for node in made.graph.node:
        if node.op_type == "QuantizeLinear":
            assert weights[node.input[2]].data_type == TensorProto.UINT8
    given = {name: node for node in made.graph.node for name in node.output}
    heavy = [node for node in made.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(heavy) == 3
    for node, channels in zip(heavy, (8, 16, 10), strict=True):
        weight = given[node.input[1]]
        assert weight.op_type == "DequantizeLinear"
        assert weights[weight.input[0]].data_type == TensorProto.INT8
        assert list(weights[weight.input[1]].dims) == [channels]
        assert weights[given[node.input[2]].input[0]].data_type == TensorProto.INT32
    assert not [t for t in weights.values() if t.data_type == TensorProto.FLOAT and t.dims[2:]]


def residual():
    """A value that two convolutions and an addition read, and its picture's rows."""
    source = np.random.default_rng(0)

    def weight(name, *shape):
        return numpy_helper.from_array(source.normal(size=shape).astype("f4") / 10, name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1] * 4),
        helper.make_node("Conv", ["r1", "w3"], ["c3"], pads=[1] * 4),
        helper.make_node("Add", ["c2", "r1"], ["a1"]),
        helper.make_node("Add", ["a1", "c3"], ["a2"]),
        helper.make_node("GlobalAveragePool", ["a2"], ["y"]),
    ]
    weights = [weight("w1", 8, 3, 3, 3), weight("b1", 8)]
    weights += [weight("w2", 8, 8, 3, 3), weight("w3", 8, 8, 3, 3)]
    made = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8, 1, 1])],
        weights,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString(), source.normal(size=(16, 3, 8, 8)).astype("f4")


def for_tensorrt(data, rows, name):
    model = prepare(data)
    found = measure_ranges(model, lambda n: iter([{name: rows[:n]}, {name: rows[n:]}]))
    return quantize(model, found, TARGETS["jetpack6"], TENSORRT)


def test_for_tensorrt_all_is_symmetric_in_pairs_and_only_before_what_gains(net):
    rows = np.load(net / "calibration.npz")["image"]
    made = for_tensorrt((net / "net.onnx").read_bytes(), rows, "image")
    weights = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    given = {name: node for node in made.graph.node for name in node.output}
    readers = {name: [n for n in made.graph.node if name in n.input] for name in given}
    for node in made.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zeros = weights[node.input[2]]
            assert (zeros.dtype, zeros.any()) == (np.int8, False), "TensorRT takes no other"
        if node.op_type == "QuantizeLinear":
            assert [n.op_type for n in readers[node.output[0]]] == ["DequantizeLinear"]
        if node.op_type == "DequantizeLinear":
            assert [n.op_type in ("Conv", "Gemm") for n in readers[node.output[0]]] == [True]
    heavy = [node for node in made.graph.node if node.op_type in ("Conv", "Gemm")]
    for node, channels in zip(heavy, (8, 16, 10), strict=True):
        for place in (0, 1):
            back = given[node.input[place]]
            assert back.op_type == "DequantizeLinear"
            assert given[back.input[0]].op_type == "QuantizeLinear", "a pair, of weights too"
        assert len(weights[given[node.input[1]].input[1]]) == channels
        assert weights[node.input[2]].dtype == np.float32, "the bias is not quantised"
    exact = open_session((net / "net.onnx").read_bytes())({"image": rows})["scores"]
    got = open_session(graph.serialize(made))({"image": rows})["scores"]
    assert 0 < np.abs(got - exact).max() < 0.05 * np.ptp(exact)


def test_for_tensorrt_nobody_else_reads_what_was_quantised():
    made = for_tensorrt(*residual(), "x")
    given = {name: node.op_type for node in made.graph.node for name in node.output}
    sums = [node for node in made.graph.node if node.op_type == "Add"]
    assert [{given[name] for name in node.input} for node in sums] == [
        {"Conv", "Relu"}, {"Add", "Conv"},
    ]  # fmt: skip


def test_names_axes_and_numbers_are_still_the_models(net):
    made, _ = make(net)
    assert [v.name for v in (*made.graph.input, *made.graph.output)] == ["image", "scores"]
    assert made.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"
    assert [entry.domain for entry in made.opset_import] == [""]
    rows = np.load(net / "plain.npz")["image"]
    exact = open_session((net / "net.onnx").read_bytes())({"image": rows})["scores"]
    got = open_session(graph.serialize(made))({"image": rows})["scores"]
    assert np.abs(got - exact).max() < 0.05 * np.ptp(exact)
    assert (got.argmax(1) == exact.argmax(1)).mean() > 0.98


@pytest.mark.slow
def test_the_bytes_are_the_same_in_every_process(net):
    code = CHILD.format(tests=str(Path(__file__).parent))
    found = {
        subprocess.run(
            [sys.executable, "-c", code, str(net)],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT}:{':'.join(sys.path)}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {make(net)[1]}


def test_a_model_that_gains_nothing_is_refused(build_linear):
    model = build_linear()
    model.graph.node[0].op_type = "Mul"
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones(3, "f4"), "W"))
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.ones(3, "f4"), "b"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    with pytest.raises(UnsupportedModelError, match=r"int8 helps Conv.*precision float32"):
        prepare(model.SerializeToString())
