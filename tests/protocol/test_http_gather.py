"""Requests that run together: each answer is to the byte what the request alone would have had."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import InvalidRequestError
from edged.messages import InferResponse
from edged.protocol.http_gather import HttpGather
from edged.protocol.http_repeat import whole_answer
from edged.tensors import TensorSpec
from tests.protocol.test_http_repeat import X, post, read, repeat


class Doubling:
    """A call that is bound for as many rows as are asked together."""

    release = 5

    def __init__(self, *outputs: TensorSpec, gathers: int = 8) -> None:
        self.outputs = outputs or (TensorSpec("y", "float32", (1, 4)),)
        self.gathers = gathers
        self.bound: list[int] = []
        self.asked: list[Sequence[tuple[str, int]]] = []
        self.is_current = self.runs = True

    def bind(self, inputs: dict, outputs: dict, rows: int) -> Doubling:
        assert all(len(array) == rows for array in (*inputs.values(), *outputs.values()))
        self.bound.append(rows)
        made = Doubling(*self.outputs)
        made.inputs, made.made, made.asked = inputs, outputs, self.asked
        made.call = self
        return made

    def run(self, origin: str) -> tuple[int, int, int, int] | None:
        raise AssertionError(origin)

    def run_for(self, askers: Sequence[tuple[str, int]]) -> int:
        if not self.call.runs:
            return 0
        self.asked.append(askers)
        for array, made in zip(self.inputs.values(), self.made.values(), strict=True):
            made[...] = array * 2
        return 700


ASKERS = [(f"http:{at}", at) for at in range(8)]


@given(st.lists(st.integers(0, 99), min_size=1, max_size=8), st.integers(1, 2))
def test_each_is_answered_its_own(numbers: list[int], rows: int) -> None:
    x = np.repeat(X, rows, axis=0)
    first = post(x, id="00")
    call = Doubling(TensorSpec("y", "float32", (rows, 4)), gathers=8 * rows)
    gather = HttpGather(repeat(first), call, "m")
    assert gather.most == 8
    sent = [post(x * number, id=f"{number:02}") for number in numbers]
    assert gather.ask(sent, ASKERS[: len(numbers)]) == 700
    assert call.bound == [len(numbers) * rows]
    assert call.asked == [ASKERS[: len(numbers)]]
    for place, number in enumerate(numbers):
        response = InferResponse("m", 5, 0, {"y": x * number * 2})
        (wanted,) = whole_answer(read(sent[place])[1], response, {})
        assert gather.answer(place, sent[place]) == wanted


def test_several_tensors() -> None:
    long = np.arange(3, dtype=np.int64).reshape(1, 3)
    outputs = (TensorSpec("a", "float32", (1, 4)), TensorSpec("b", "int64", (1, 3)))
    gather = HttpGather(repeat(post(X, long)), Doubling(*outputs), "m")
    assert gather.ask([post(X, long), post(X * 3, long * 5)], ASKERS[:2])
    answer = gather.answer(1, post(X, long))
    assert answer.endswith((X * 6).tobytes() + (long * 10).tobytes())
    assert len(answer) == len(gather.answer(0, post(X, long)))


def test_what_was_bound_is_used_again_until_it_changes() -> None:
    call = Doubling()
    gather = HttpGather(repeat(post(X)), call, "m")
    for count in (2, 3, 2, 3):
        assert gather.ask([post(X)] * count, ASKERS[:count])
    assert call.bound == [2, 3]
    call.runs = False
    assert gather.ask([post(X)] * 2, ASKERS[:2]) == 0


@pytest.mark.parametrize(
    ("data", "call"),
    [
        (post(X), Doubling(gathers=1)),
        (post(X), Doubling(TensorSpec("y", "float32", (4,)))),
        (post(X), Doubling(TensorSpec("y", "float32", (1, "free")))),
        (post(X), Doubling(TensorSpec("y", "string", (1, 4)))),
        (post(X), Doubling(TensorSpec("y", "float32", (1, 4000)))),
        (post(X, np.zeros((2, 4), np.float32)), Doubling()),
        (post(np.float32(1)), Doubling(TensorSpec("y", "float32", ()))),
    ],
    ids=["alone", "other rows", "free axis", "strings", "large", "rows that differ", "no rows"],
)
def test_what_is_not_run_together(data: bytes, call: Doubling) -> None:
    with pytest.raises(InvalidRequestError):
        HttpGather(repeat(data), call, "m")
