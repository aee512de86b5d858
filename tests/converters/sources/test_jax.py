"""JAX (experimental): functions and flax modules from a factory."""

import importlib.util
import sys

import numpy as np
import pytest

from tests.converters.many import case, make_once, outcomes_once

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        sys.version_info < (3, 11) or importlib.util.find_spec("jax2onnx") is None,
        reason="jax2onnx is not installed, or this Python is older than 3.11",
    ),
]

NETS = """
import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.full = nnx.Linear(256, 5, rngs=rngs)

    def __call__(self, image):
        hidden = self.drop(nnx.gelu(self.norm(self.conv(image))))
        return {"scores": self.full(hidden.reshape(hidden.shape[0], -1)), "hidden": hidden}


def net():
    return Net(nnx.Rngs(0))


def pure():
    return lambda row: (jnp.sort(row, axis=1), row.mean(1))


def scan():
    def scanned(row):
        def step(carry, value):
            return carry + value, carry * value
        last, steps = lax.scan(step, row[:, 0], jnp.swapaxes(row, 0, 1))
        return last, jnp.swapaxes(steps, 0, 1)
    return scanned


def cond():
    return lambda row: lax.cond(row.shape[1] > 2, lambda v: v * 2, lambda v: v, row)


def ids():
    table = jax.random.normal(jax.random.key(0), (9, 4))
    return lambda ids: table[ids].sum(1)


def two():
    return lambda left, right: jnp.concatenate([left, right * 2], axis=1)


def rfft():
    return lambda row: jnp.abs(jnp.fft.rfft(row, axis=1))


def fft():
    return lambda row: jnp.abs(jnp.fft.fft(row, axis=1))


def svd():
    return lambda image: jnp.linalg.svd(image[..., 0])[1]


def number():
    return 3
"""


def make(folder):
    (folder / "nets.py").write_text(NETS)
    random = np.random.default_rng(0)
    np.savez(folder / "image.npz", image=random.normal(size=(30, 8, 8, 1)))
    np.savez(folder / "row.npz", row=random.normal(size=(30, 8)))
    np.savez(folder / "ids.npz", ids=random.integers(0, 9, size=(30, 5)))
    np.savez(folder / "big.npz", ids=random.integers(0, 9, size=(30, 5)) + 2**40)
    np.savez(
        folder / "two.npz", left=random.normal(size=(30, 3)), right=random.normal(size=(30, 2))
    )


CASES = {
    "net": case("nets:net", "image.npz"),
    "pure": case("nets:pure", "row.npz"),
    "scan": case("nets:scan", "row.npz"),
    "cond": case("nets:cond", "row.npz"),
    "ids": case("nets:ids", "ids.npz"),
    "two": case("nets:two", "two.npz"),
    "late": case("nets:net", "image.npz", opset=23),
    "late-off": case(
        "nets:net", "image.npz", off={"converters.sources.jax:_is_beyond": "lambda p: True"}
    ),
    "rfft": case("nets:rfft", "row.npz"),
    "rfft-off": case(
        "nets:rfft",
        "row.npz",
        off={"converters.sources.jax:_refuse_other_ranks": "lambda *rest: None"},
    ),
    "fft": case("nets:fft", "row.npz"),
    "fft-off": case(
        "nets:fft",
        "row.npz",
        off={"converters.sources.jax:_refuse_complex": "lambda *rest: None"},
    ),
    "svd": case("nets:svd", "image.npz"),
    "number": case("nets:number", "row.npz"),
    "big": case("nets:ids", "big.npz"),
    "weights": case("nets:net", "image.npz", weights="nets.py"),
    "made": case("nets:two", ""),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_once(tmp_path_factory, "jax", make)


@pytest.fixture(scope="module")
def outcomes(folder):
    return outcomes_once(folder, CASES)


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("net", ["image float32[batch,8,8,1]"],
         ["hidden float32[batch,8,8,4]", "scores float32[batch,5]"]),
        ("pure", ["row float32[batch,8]"],
         ["output_0 float32[batch,8]", "output_1 float32[batch]"]),
        ("scan", ["row float32[batch,8]"],
         ["output_0 float32[batch]", "output_1 float32[batch,8]"]),
        ("cond", ["row float32[batch,8]"], ["output float32[batch,8]"]),
        ("ids", ["ids int32[batch,5]"], ["output float32[batch,4]"]),
        ("two", ["left float32[batch,3]", "right float32[batch,2]"],
         ["output float32[batch,5]"]),
    ],
)  # fmt: skip
def test_converts(outcomes, name, inputs, outputs):
    got = outcomes[name]
    assert not got.error
    assert (got.inputs, got.outputs) == (inputs, outputs)
    assert got.max_abs < 1e-5
    assert "JAX sources are experimental" in got.warnings
    assert got.opset == 18


def test_a_later_opset_is_taken_when_asked_or_needed(outcomes):
    assert outcomes["late"].opset == 23
    assert outcomes["late-off"].opset == 23
    assert "opset-23" in outcomes["late-off"].traps


@pytest.mark.parametrize(
    ("name", "words", "kind"),
    [
        ("rfft", "known for rfft", "UnsupportedModelError"),
        ("rfft-off", "", "ConversionError"),
        ("fft", "complex numbers, which ONNX Runtime does not compute", "UnsupportedModelError"),
        ("fft-off", "does not load the converted model", "ConversionError"),
        ("svd", "cannot convert this function: NotImplementedError: svd", "UnsupportedModelError"),
        ("number", "gave a int, not a function", "ConversionError"),
        ("big", "beyond 32 bits", "ConversionError"),
        ("weights", "--weights is not for JAX", "ConversionError"),
        ("made", "no rows can be made for the function (left, right)",
         "ConversionError"),
    ],
)  # fmt: skip
def test_refused_by_name(outcomes, name, words, kind):
    assert words in outcomes[name].error
    assert outcomes[name].kind == kind


def test_axes_that_are_called_dynamic_and_are_not():
    from onnx import TensorProto, helper

    from converters.sources.jax import SENTINEL, _settle_sentinels

    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", SENTINEL])
    model = helper.make_model(helper.make_graph([], "g", [], [value]))
    assert _settle_sentinels(model, {"y": np.zeros((2, 5))})
    assert model.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 5
    assert not _settle_sentinels(model, {"y": np.zeros((2, 5))})
