"""Errors say where they happened, and keep what they are."""

from __future__ import annotations

import numpy as np
import pytest

from edged.errors import InvalidRequestError, QueueFullError, RunError, WorkerDiedError
from edged.pipelines.checks import (
    MOST_MADE,
    check_growth,
    check_promise,
    named,
    nothing,
    rows_of,
    size_of,
    unexpected,
)
from edged.tensors import TensorSpec


def test_named():
    full = named(QueueFullError("full", retry_after_ns=7), "here")
    assert isinstance(full, QueueFullError)
    assert (full.message, str(full), full.retry_after_ns) == ("here: full", "here: full", 7)
    died = named(WorkerDiedError("gone", crash="SIGSEGV"), "here")
    assert isinstance(died, WorkerDiedError)
    assert died.crash == "SIGSEGV"


def test_unexpected():
    assert type(unexpected(ValueError("no"))) is InvalidRequestError
    made = unexpected(KeyError("secret"))
    assert type(made) is RunError
    assert "secret" not in made.message


@pytest.mark.parametrize(
    "made",
    [{}, {"y": [1]}, {"y": np.ones(2)}, {"y": np.ones((1, 2), "f4")}, {"y": np.ones(3, "f4")}],
)
def test_promises(made: dict):
    with pytest.raises(RunError, match=r"promised float32\[2\]"):
        check_promise([TensorSpec("y", "float32", (2,))], made)
    check_promise([TensorSpec("y", "float32", (2,))], {"y": np.ones(2, "f4")})


def test_small_ones():
    specs = [TensorSpec("a", "int8", (3,)), TensorSpec("b", "int8", ("batch", 3))]
    assert rows_of(specs, {"a": np.ones(3), "b": np.ones((5, 3))}) == 5
    assert rows_of(specs[:1], {"a": np.ones(3)}) == 1
    assert size_of({"a": np.ones(2, "f4"), "b": [np.ones(1, "f4"), None]}) == 12
    made = nothing([specs[1]], [TensorSpec("b", "int8", ("batch", 3, "t"))])
    assert made["b"].shape == (0, 3, 0)


def test_growth():
    check_growth(MOST_MADE, 1)
    check_growth(MOST_MADE + 5, MOST_MADE + 5)  # what is there already may be turned round
    with pytest.raises(ValueError, match="7 values would become"):
        check_growth(MOST_MADE + 1, 7)
