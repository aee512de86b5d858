"""Equal questions have equal digests, and no others have."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edged.messages import InferRequest
from edged.serving.caching import digest as module
from edged.serving.caching.digest import Digests, algorithm

X = np.arange(12, dtype=np.float32).reshape(3, 4)
ONE = Digests(b"release 1", ("x",))
TWO = Digests(b"release 1", ("a", "b"))


def of(digests: Digests = ONE, peer: str = "", outputs: tuple[str, ...] = (), **inputs) -> bytes:
    request = InferRequest("m", inputs or {"x": X}, outputs=outputs)
    return digests.of(request, peer)


def test_the_same_bytes_however_they_lie():
    assert of() == of(x=X.copy()) == of(x=np.asfortranarray(X)) == of(x=np.repeat(X, 2, 1)[:, ::2])
    long = np.arange(9000, dtype=np.float32).reshape(3, 3000)
    assert of(x=long) == of(x=np.asfortranarray(long)) != of(x=long + 1)
    assert len(of()) == 32


DIFFERENT = {
    "bytes": {"x": X + 1},
    "rows": {"x": X[:2]},
    "shape": {"x": X.reshape(4, 3)},
    "rank": {"x": X.reshape(3, 4, 1)},
    "sign of zero": {"x": np.where(X == 0, -0.0, X).astype(np.float32)},
    "outputs": {"outputs": ("y",)},
    "peer": {"peer": "uds:1000"},
    "release": {"digests": Digests(b"release 2", ("x",))},
}


@pytest.mark.parametrize("change", DIFFERENT.values(), ids=DIFFERENT)
def test_another_question(change: dict):
    assert of(**change) != of()


def test_the_order_of_a_mapping_is_no_difference_and_that_of_inputs_is():
    a, b = np.zeros(2, np.float32), np.ones(2, np.float32)
    assert of(TWO, a=a, b=b) == of(TWO, b=b, a=a) != of(TWO, a=b, b=a)


def test_nothing_moves_from_one_input_to_the_next():
    a, b = np.arange(3, dtype=np.uint8), np.arange(3, 5, dtype=np.uint8)
    both = np.concatenate([a, b])
    assert of(TWO, a=a, b=b) != of(TWO, a=both[:2], b=both[2:])


def test_more_layouts_than_are_remembered():
    first = of(x=X[:1])
    for rows in range(1, 3 * module._HEADS):
        of(x=np.zeros((rows, 4), np.float32))
    assert len(ONE._heads) <= module._HEADS
    assert of(x=X[:1]) == first


@pytest.mark.parametrize("make", [hashlib.blake2b, hashlib.sha256])
def test_either_algorithm(make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "algorithm", lambda: make)
    digests = Digests(b"r", ("x",))
    assert of(digests) == of(digests) != of(digests, x=X + 1)
    assert len(of(digests)) == 32


def test_one_of_two_is_chosen_once():
    assert algorithm() in (hashlib.blake2b, hashlib.sha256)
    assert algorithm() is algorithm()


tensors = array_shapes(max_dims=3, max_side=4, min_dims=0).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(tensors, tensors), min_size=2, max_size=2))
def test_equal_when_and_only_when_the_questions_are(pairs):
    (a, b), (c, d) = pairs
    is_same = (a.shape, b.shape, a.tobytes(), b.tobytes()) == (
        c.shape,
        d.shape,
        c.tobytes(),
        d.tobytes(),
    )
    assert (of(TWO, a=a, b=b) == of(TWO, a=c, b=d)) == is_same
