"""What a bundle may promise of a model file."""

from __future__ import annotations

import pytest

from edged.errors import LoadError
from edged.runtimes.signature import check_fit, check_names
from edged.tensors import TensorSpec

X = TensorSpec("x", "float32", ("batch", 4))


def test_every_input_is_needed_and_outputs_may_be_left_out():
    with pytest.raises(LoadError, match=r'^m: the bundle promises inputs x; .* has "x", "z";'):
        check_names("m", "input", [X], ["x", "z"])
    check_names("m", "output", [X], ["x", "z"])
    for side in ("input", "output"):
        with pytest.raises(LoadError, match=rf'{side}s x; the model file has "z"'):
            check_names("m", side, [X], ["z"])


@pytest.mark.parametrize("shape", [("batch", 4), (1, 4), ("n", 4)])
def test_a_promise_may_be_narrower(shape: tuple):
    check_fit("m", "input", TensorSpec("x", "float32", shape), X)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("float64", ("batch", 4)),
        ("float32", ("batch", 5)),
        ("float32", ("batch", "n")),
        ("float32", ("batch",)),
    ],
)
def test_another_promise_is_refused(dtype: str, shape: tuple):
    with pytest.raises(LoadError, match=r'm: input "x" is float32\[batch,4\] in the model file'):
        check_fit("m", "input", TensorSpec("x", dtype, shape), X)
