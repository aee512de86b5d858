"""What HTTP and gRPC know of requests that repeat, without either."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edged.errors import InvalidRequestError
from edged.protocol.layout import COPY_BYTES
from edged.protocol.oip_request import Asked
from edged.protocol.repeated import Field, Repeated, RepeatedLane, fixed_shape
from edged.tensors import TensorSpec

F4, I2 = np.dtype("float32"), np.dtype("int16")
ASKED = Asked("", {}, (), is_binary=True)
KNOWN = Repeated([Field("x", F4, (1, 2), 2, 3), Field("n", I2, (2,), 2, 12)], 16, ASKED)
DATA = b"abc" + np.float32([1, 2]).tobytes() + b"-" + np.int16([3, 4]).tobytes()
Y = TensorSpec("y", "float32", (1, 2))


class Call:
    """Adds what it is asked; stands for a prepared call."""

    def __init__(self, *, is_bound: bool = True) -> None:
        self.is_bound = is_bound
        self.is_current = self.has_run = True
        self.release = 1
        self.origins: list[str] = []
        self.keys: list[object] = []

    def bind(self, inputs: Any, outputs: Any, rows: int) -> Any:
        self._in, self._out = inputs, outputs
        return self if self.is_bound else None

    def run(self, origin: str, key: object = None) -> Any:
        self.origins.append(origin)
        self.keys.append(key)
        self._out["y"][:] = self._in["x"] + self._in["n"]
        return (self.release, 1, 1, 1) if self.has_run else None


def test_where_tensors_lie():
    assert KNOWN.specs == (TensorSpec("x", "float32", (1, 2)), TensorSpec("n", "int16", (2,)))
    found = KNOWN.inputs(DATA)
    np.testing.assert_array_equal(found["x"], [[1, 2]])
    np.testing.assert_array_equal(found["n"], [3, 4])
    assert all(array.flags.aligned for array in found.values())


def test_an_answer_is_what_was_written_between_its_heads():
    lane, call = RepeatedLane(KNOWN, [Y]), Call()
    assert not lane.is_current
    assert lane.ask(DATA, "me") is None
    lane.bind(call, {1: (b"head:", lane.outputs["y"].reshape(-1).view(np.uint8).data, b":end")})
    assert lane.ask(DATA, "me") == b"head:" + np.float32([4, 6]).tobytes() + b":end"
    assert call.origins == ["me"]
    call.has_run = False
    assert lane.ask(DATA, "me") is None
    assert lane.is_current
    call.is_current = False
    assert not lane.is_current


def test_each_has_an_id_of_its_own():
    """The id of the one that the head was made for stands in no answer to another."""
    asked = Asked("abc", {}, (), is_binary=True, parameters={"device": "d7"})
    known = Repeated(KNOWN.fields, 16, asked, (0, 3))
    lane, call = RepeatedLane(known, [Y]), Call()
    around = known.around(b'{"id":"abc"}', b'"id":"')
    lane.bind(call, {1: (*around, lane.outputs["y"].reshape(-1).view(np.uint8).data)})
    answer = lane.ask(b"xyz" + DATA[3:], "me")
    assert answer == b'{"id":"xyz"}' + np.float32([4, 6]).tobytes()
    assert call.keys == [{"id": "xyz", "device": "d7"}]
    with pytest.raises(InvalidRequestError, match="reads as the id"):
        known.around(b'{"id":"abc","x":"id":"abc"}', b'"id":"')


def test_each_release_has_its_answer():
    lane, call = RepeatedLane(KNOWN, [Y]), Call()
    lane.bind(call, {1: (b"first",), 12: (b"twelfth",)})
    found = []
    for call.release in (12, 1, 12):
        found.append(lane.ask(DATA, "me"))
    assert found == [b"twelfth", b"first", b"twelfth"]


def test_a_call_that_cannot_be_bound_goes_the_usual_way():
    lane = RepeatedLane(KNOWN, [Y])
    lane.bind(Call(is_bound=False), {1: (b"head",)})
    assert lane.ask(DATA, "me") is None
    assert not lane.is_current


@pytest.mark.parametrize(
    ("spec", "most", "words"),
    [
        (TensorSpec("y", "string", (1,)), COPY_BYTES, "no NumPy numbers"),
        (TensorSpec("y", "float32", ("batch", 2)), COPY_BYTES, '"y" has a free axis'),
        (TensorSpec("y", "float32", (COPY_BYTES,)), COPY_BYTES, "what is large"),
        (TensorSpec("y", "float32", (0,)), COPY_BYTES, "what is large"),
        (Y, 7, "what is large"),
    ],
)
def test_what_has_no_lane(spec: TensorSpec, most: int, words: str):
    with pytest.raises(InvalidRequestError, match=words):
        RepeatedLane(KNOWN, [spec], most)


def test_a_large_request_has_no_lane():
    with pytest.raises(InvalidRequestError, match="what is large"):
        RepeatedLane(Repeated(KNOWN.fields, 2 * COPY_BYTES + 1, ASKED), [Y])


def test_shapes():
    assert fixed_shape(Y) == (1, 2)
