"""The little grammar: what it means, what it refuses, and that types are foretold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import FieldError
from edged.pipelines.expressions import evaluate, type_of_tree
from edged.pipelines.grammar import parse, references
from edged.pipelines.types import ValueType
from edged.tensors import DTYPES

X = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]], np.float32)
N = np.array([[3], [4]], np.int64)
VALUES = {"x": X, "n": N, "det.score": X[:, 0], "u": np.arange(6, dtype=np.uint8).reshape(2, 3)}
TYPES = {
    "x": ValueType("float32", ("batch", 3)),
    "n": ValueType("int64", ("batch", 1)),
    "det.score": ValueType("float32", ("batch",)),
    "u": ValueType("uint8", ("batch", 3)),
}

MEANS = {
    "x": X,
    "x + 1": X + 1,
    "(x - 3.5) / 2": (X - 3.5) / 2,
    "-x ** 2": -(X**2),
    "2 ** -1 * x": X * 0.5,
    "x - 1 - 1": X - 2,
    "x * 2 + x * 3": X * 5,
    "x / 2 / 2": X / 4,
    "7 // 2 % 2 + x": X + 1,
    "max(x)": X.max(),
    "max(x, axis=1)": X.max(axis=1),
    "mean(x, axis=-1) > 0.5": X.mean(axis=-1) > 0.5,
    "max(`det.score`) >= 4 and not any(x > 100)": np.True_,
    "max(det.score) >= 4.5 or false": np.False_,
    "where(x > 0, x, 0)": np.where(X > 0, X, 0),
    "clip(x, -1, 1)": np.clip(X, -1, 1),
    "softmax(x)": np.exp(X) / np.exp(X).sum(axis=-1, keepdims=True),
    "sigmoid(x)": 1 / (1 + np.exp(-X)),
    "float32(u) / 255": VALUES["u"].astype(np.float32) / 255,
    "argmax(x, axis=1)": X.argmax(axis=1),
    "x * float32(n)": X * N.astype(np.float32),
    "maximum(x, 0)": np.maximum(X, 0),
    "expand(x, axis=1)": X[:, None, :],
    "x * expand(det.score, axis=-1)": X * X[:, :1],
    "normalize(x)": X / np.linalg.norm(X, axis=1, keepdims=True),
    "normalize(x, axis=0)": X / np.linalg.norm(X, axis=0),
    "normalize(x * 0)": X * 0,
    "size(x)": np.asarray(6),
    "size(x, axis=0)": np.asarray([2, 2, 2]),
    "size(3) + argmax(3)": np.asarray(1),
    "3": np.asarray(3),
    "not true": np.False_,
    "1e3 * .5": np.asarray(500.0),
}


@pytest.mark.parametrize("text", MEANS)
def test_what_it_means_and_what_type_was_foretold(text: str):
    tree = parse(text, "compute")
    got = evaluate(tree, VALUES)
    np.testing.assert_allclose(got, MEANS[text], rtol=1e-6)
    foretold = type_of_tree(tree, TYPES, "compute")
    assert got.dtype == DTYPES[foretold.dtype].numpy
    assert len(foretold.shape) == got.ndim
    for axis, length in zip(foretold.shape, got.shape, strict=True):
        assert length == (2 if axis == "batch" else axis)


MISFITS = {
    "x + u[": "cannot be read",
    "x + `det.score`": "shapes [batch,3] and [batch] do not go together",
    "max(x, axis=2)": "which has 2 axes",
    "x % (x > 0) - (x > 0) - (x > 0) * 1": None,
    "-(x > 0)": "cannot be done with bool",
    "expand(x, axis=3)": "it would have 3 axes",
    "expand(x, axis=-4)": "it would have 3 axes",
    "expand(" * 7 + "x" + ", axis=0)" * 7: "it would have 9 axes, at most 8 may be",
    "expand(x)": "expand takes a tensor and where the new axis goes",
    "expand(3, axis=0)": "expand takes a tensor and where the new axis goes",
    "expand(x, 1)": "expand takes 1 operands",
}


@pytest.mark.parametrize("text", MISFITS)
def test_what_does_not_go_together_is_refused_before_it_runs(text: str):
    wanted = MISFITS[text]
    if wanted is None:
        type_of_tree(parse(text, "p"), TYPES, "p")
        return
    with pytest.raises(FieldError) as caught:
        type_of_tree(parse(text, "p"), TYPES, "p")
    assert wanted in caught.value.reason


@pytest.mark.hostile(
    "F13 an expression with brackets without end, with code, or with a power tower"
)
def test_numbers_alone_never_grow_without_a_bound():
    tree = parse("9 ** 9 ** 9 ** 9 ** 9", "p")
    assert evaluate(tree, {}) == np.inf


@pytest.mark.hostile("H7 rows against columns in an expression whose lengths a peer says")
@pytest.mark.parametrize("text", ["x + y", "maximum(x, y)", "where(x > 0, y, 1)", "clip(x, y, 9)"])
def test_what_grows_has_a_limit(text: str):
    tree = parse(text, "p")

    def of(rows: int, columns: int) -> dict[str, np.ndarray]:
        return {"x": np.ones((rows, 1), np.float32), "y": np.ones((1, columns), np.float32)}

    with pytest.raises(ValueError, match=r"would make \[2049, 2048\]; the limit is 4194304 values"):
        evaluate(tree, of(2049, 2048))
    assert evaluate(tree, of(2048, 2048)).shape == (2048, 2048)
    large = np.broadcast_to(np.float32(1), (2049, 2048))
    assert evaluate(tree, {**of(2049, 1), "x": large}).shape == large.shape, "nothing grows"


def test_of_nothing_no_condition_holds():
    none = {"s": np.zeros((0, 3), np.float32)}
    assert not evaluate(parse("max(s) > 0.5", "p"), none)
    assert evaluate(parse("max(s, axis=0)", "p"), none).shape == (3,)


@given(st.text("x0. ()+-*/<>=,`axismaxnotand1e", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_tree_or_a_problem(text: str):
    try:
        tree = parse(text, "p")
        wanted = type_of_tree(tree, dict.fromkeys(references(tree), TYPES["x"]), "p")
    except FieldError:
        return
    got = evaluate(tree, dict.fromkeys(references(tree), X))
    assert got.dtype == DTYPES[wanted.dtype].numpy
    assert got.ndim == len(wanted.shape)
