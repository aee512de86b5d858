import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from converters import graph
from converters.errors import UnsupportedModelError
from converters.precision.quantize import prepare, quantize
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
