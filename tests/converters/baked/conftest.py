"""A model of pictures that sees every pixel, and raw samples for it."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper


def build_picture_model(size=(8, 6), *, layout="NCHW", opset=18, elem=TensorProto.FLOAT):
    """``scores = flatten(x) @ W``: any pixel that is elsewhere or otherwise changes the answer."""
    height, width = size
    axes = {"N": "n", "C": 3, "H": height, "W": width}
    kind = helper.tensor_dtype_to_np_dtype(elem)
    weight = np.random.default_rng(3).normal(size=(3 * height * width, 4)) / (height * width)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("MatMul", ["flat", "W"], ["scores"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", elem, [axes[letter] for letter in layout])],
        [helper.make_tensor_value_info("scores", elem, ["n", 4])],
        [numpy_helper.from_array(weight.astype(kind), "W")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.fixture(scope="session")
def pictures():
    """uint8[12,20,16,3]: noise, so that no neighbour is like another."""
    return np.random.default_rng(5).integers(0, 256, (12, 20, 16, 3)).astype(np.uint8)


@pytest.fixture(scope="session")
def picture_model():
    """Returns ``build(size, layout=…, opset=…, elem=…) -> ModelProto``."""
    return build_picture_model


@pytest.fixture
def save_pictures(tmp_path, pictures):
    """Returns ``save(model, bake, samples=…, **fields) -> Recipe``, through the checks of YAML."""
    from converters.recipe import make_recipe

    def save(model, bake, samples=pictures, **fields):
        (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
        np.savez(tmp_path / "raw.npz", image=samples)
        return make_recipe(
            {
                "source": str(tmp_path / "model.onnx"),
                "samples": str(tmp_path / "raw.npz"),
                "name": "pictures",
                "release": 1,
                "bake": {"*": bake},
                **fields,
            }
        )

    return save
