"""The same recipe in two processes, for every precision."""

import pytest

from tests.converters.twice import hold_twice, write_recipe


@pytest.mark.slow  # eight conversions, two of them in an interpreter of their own
def test_onnx_in_every_precision(net, tmp_path):
    source = {"source": str(net / "net.onnx"), "samples": str(net / "plain.npz")}
    half = {"precision": "float16", "tolerance": {"rtol": 0.01, "atol": 0.05}}
    int8 = {"calibration": str(net / "calibration.npz"), "max_accuracy_drop": 0.02}
    recipes = [
        write_recipe(tmp_path, "float32", **source),
        write_recipe(tmp_path, "float16", **source, **half),
        write_recipe(tmp_path, "int8", **source, **int8, precision="int8"),
        write_recipe(tmp_path, "both", **source, **int8, precision="float32,int8"),
    ]
    hold_twice(recipes, tmp_path)
