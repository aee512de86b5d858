import numpy as np
import pytest
from onnx import numpy_helper


@pytest.fixture
def models(tmp_path, build_linear):
    """Returns ``write(text) -> FILE`` beside a.onnx, b.onnx, their rows and r.yaml, a recipe of a."""
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(40, 3)).astype("f4"))
    for name, factor in (("a", 1), ("b", 2)):
        model = build_linear()
        weight = numpy_helper.to_array(model.graph.initializer[0]) * np.float32(factor)
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "W"))
        (tmp_path / f"{name}.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "r.yaml").write_text("source: a.onnx\nsamples: rows.npy\nname: a\nrelease: 1\n")

    def write(text):
        path = tmp_path / "batch.yaml"
        path.write_text(text)
        return path

    return write


TWO = """\
models:
  - recipe: r.yaml
    targets: [cpu, jetpack6]
  - {source: b.onnx, samples: rows.npy, name: b, release: 2}
"""


@pytest.fixture
def two(models):
    return models(TWO)


@pytest.fixture
def sleeper(tmp_path):
    """An interpreter that answers what it is asked and then does nothing but note its process."""
    import sys

    program = tmp_path / "sleeper"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\n'
        f"echo $$ >>{tmp_path}/sleeping\nexec sleep 600\n"
    )
    program.chmod(0o755)
    return program
