"""A small convolutional network by hand, its data, and the same proven once a test process."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.contents import hash_sources
from converters.gate.prove import prove
from converters.recipe import Recipe, make_recipe
from converters.samples import load_samples
from converters.sandbox import Converted
from converters.session import open_session
from converters.sources.base import SourceResult


def _weight(source, name, *shape):
    scale = np.sqrt(np.prod(shape[1:]) or 1)
    return numpy_helper.from_array((source.normal(size=shape) / scale).astype("f4"), name)


PROTOTYPES = np.random.default_rng(3).normal(size=(10, 1, 8, 8)).astype("f4")
"""One picture a class; the network says to which one another is nearest."""


def make_pictures(seed, rows):
    source = np.random.default_rng(seed)
    noise = source.normal(size=(rows, 1, 8, 8)) * 0.5
    return (PROTOTYPES[np.arange(rows) % 10] + noise).astype("f4")


def build_net():
    """float32[batch,1,8,8] pictures to the scores of ten classes, with every axis 0 free."""
    source = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Flatten", ["r2"], ["f"]),
    ]
    weights = [
        *(_weight(source, "w1", 8, 1, 3, 3), _weight(source, "b1", 8)),
        *(_weight(source, "w2", 16, 8, 3, 3), _weight(source, "b2", 16)),
    ]
    body = _model(nodes, weights, "f", 256)
    features = open_session(body.SerializeToString())({"image": PROTOTYPES})["f"]
    middle = features.mean(axis=0)
    centred = features - middle
    bias = -(centred**2).sum(axis=1) / 2 - centred @ middle
    weights += [numpy_helper.from_array(centred, "w3"), numpy_helper.from_array(bias, "b3")]
    nodes.append(helper.make_node("Gemm", ["f", "w3", "b3"], ["scores"], transB=1))
    return _model(nodes, weights, "scores", 10)


def _model(nodes, weights, output, width):
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", width])],
        weights,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture(scope="session")
def net(tmp_path_factory):
    """A folder with ``net.onnx``, samples (with the float32 model's own labels) and rows to calibrate on."""
    folder = tmp_path_factory.mktemp("int8")
    (folder / "net.onnx").write_bytes(build_net().SerializeToString())
    pictures = make_pictures(1, 240)
    scores = open_session((folder / "net.onnx").read_bytes())({"image": pictures})["scores"]
    np.savez(folder / "samples.npz", image=pictures, right=scores.argmax(axis=1))
    np.savez(folder / "plain.npz", image=pictures)
    rows = make_pictures(2, 64)
    np.savez_compressed(folder / "calibration.npz", image=rows)
    np.savez(folder / "faint.npz", image=rows / 50)
    return folder


@pytest.fixture(scope="session")
def proven(net):
    """Returns ``recipe(**fields)`` and what the throw-away process and the gate gave, made once."""

    def recipe(**fields) -> Recipe:
        values = {
            "source": str(net / "net.onnx"),
            "samples": str(net / "plain.npz"),
            "calibration": str(net / "calibration.npz"),
            "name": "net",
            "release": 1,
            "precision": "int8",
            "max_accuracy_drop": 0.02,
            **fields,
        }
        return make_recipe(values)

    data = Path(net / "net.onnx").read_bytes()
    samples, _ = load_samples(net / "plain.npz")
    result = SourceResult(
        framework={},
        reference="by hand",
        input_names=("image",),
        output_names=("scores",),
        isolation="none",
    )
    outputs = open_session(data, optimise=False)(samples)
    converted = Converted(data, samples, outputs, {}, result)
    made = prove(recipe(), converted)
    return SimpleNamespace(recipe=recipe, converted=converted, proven=made, contents=hash_sources)
