"""Small trained models, made once a test process; nothing is downloaded."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.recipe import Recipe


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A folder with a fitted pipeline (digits.joblib), real samples and a key pair."""
    import joblib
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from edged.store.keys import generate_key

    folder = tmp_path_factory.mktemp("digits")
    pixels, labels = load_digits(return_X_y=True)
    pixels = pixels / 16
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    model.fit(pixels[:600], labels[:600])
    joblib.dump(model, folder / "digits.joblib")
    np.savez(folder / "samples.npz", image=pixels[600:900])
    generate_key(folder / "release")
    generate_key(folder / "other")
    return folder


@pytest.fixture(scope="session")
def digits_bundle(digits):
    """The same model converted and signed."""
    from converters import convert

    recipe = Recipe(
        source=str(digits / "digits.joblib"),
        samples=str(digits / "samples.npz"),
        name="digits",
        release=1,
    )
    return convert(recipe, digits / "digits-1.edgb", key=digits / "release.key", trust=True)


def _build_linear(batch="n", *, weight=None, opset=18, ir=9, extra=()):
    """``y = x @ W + b`` on float32[batch,3] -> float32[batch,2], by hand."""
    weight = np.array([[1, 2], [3, 4], [5, 6]], "f4") if weight is None else weight
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["y"]),
        *extra,
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 2])],
        [
            numpy_helper.from_array(weight, "W"),
            numpy_helper.from_array(np.array([0.5, -0.5], "f4"), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    model.producer_name = "someone"
    model.doc_string = "/home/someone/secret"
    return model


@pytest.fixture(scope="session")
def build_linear():
    """Returns ``build(batch, weight=…, opset=…, ir=…) -> ModelProto``."""
    return _build_linear


@pytest.fixture
def linear(tmp_path):
    """Returns ``save(model) -> Recipe`` beside samples of three columns."""
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype("f4")
    np.save(tmp_path / "rows.npy", rows)

    def save(model=None, **fields):
        path = tmp_path / "linear.onnx"
        path.write_bytes((model or _build_linear()).SerializeToString())
        values = {"name": "linear", "release": 3, **fields}
        return Recipe(source=str(path), samples=str(tmp_path / "rows.npy"), **values)

    return save
