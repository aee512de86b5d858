"""From a RUN frame to its ANSWER in fixed memory: the same bytes as the usual way, or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from edged.errors import EdgedError
from edged.messages import InferResponse
from edged.protocol import prepared_runs
from edged.protocol.lane import Lane
from edged.protocol.layout import BodyLayout
from edged.protocol.prepared_runs import RunHead
from edged.tensors import TensorSpec
from tests.fakes.wire import joined, only

X = TensorSpec("x", "float32", ("batch", 4))
BIAS = TensorSpec("bias", "int16", (3,))
IN, OUT = BodyLayout([X, BIAS]), BodyLayout([TensorSpec("y", "float64", ("batch", 3))])


@dataclass
class Call:
    """y is the sum of x's rows plus the bias."""

    is_refusing: bool = False
    is_current: bool = True
    binds: bool = True
    rows: list[int] = field(default_factory=list)

    def bind(self, inputs: dict, outputs: dict, rows: int) -> Call | None:
        self.inputs, self.outputs = inputs, outputs
        self.rows.append(rows)
        return self if self.binds else None

    def run(self, origin: str, key: str | None = None) -> tuple[int, int, int, int] | None:
        if self.is_refusing:
            return None
        self.outputs["y"][...] = self.inputs["x"].sum(1)[:, None] + self.inputs["bias"]
        return 3, 12, 900, len(self.inputs["x"])


def question(rows: int, number: int = 9) -> tuple[bytes, np.ndarray]:
    x = np.random.default_rng(rows).random((rows, 4), np.float32)
    bias = np.arange(3, dtype=np.int16)
    frame = joined(
        prepared_runs.encode_run(number, RunHead(1, rows, 0), IN, {"x": x, "bias": bias})
    )
    return frame, (x.sum(1)[:, None] + bias).astype(float)


def test_the_same_bytes_as_the_usual_way():
    lane = Lane(IN, OUT, 2, Call())
    for number in (9, 10):
        frame, wanted = question(2, number)
        scratch = memoryview(bytearray(frame + b"left over"))
        assert prepared_runs.peek_run(scratch, len(frame)) == (number, 1, 2, lane.size, 0, 48, None)
        answer = lane.ask(scratch, number, "uds:0")
        response = InferResponse("m", 3, 12, {"y": wanted}, None, 0, 900, 2)
        assert answer == joined(prepared_runs.encode_answer(number, response, OUT, 2))
    # An answer is the asker's for good.
    got = prepared_runs.decode_answer(only([answer]), "m", OUT)
    lane.ask(memoryview(bytearray(question(2)[0])), 11, "uds:0")
    np.testing.assert_array_equal(got.outputs["y"], wanted)


def test_outputs_without_rows():
    out = BodyLayout([TensorSpec("y", "float64", (1, 3))])
    lane = Lane(IN, out, 1, Call())
    frame, wanted = question(1)
    answer = only([lane.ask(memoryview(bytearray(frame)), 9, "")])
    np.testing.assert_array_equal(
        prepared_runs.decode_answer(answer, "m", out).outputs["y"], wanted
    )


def test_what_is_refused_is_left_alone():
    call = Call(is_refusing=True)
    lane = Lane(IN, OUT, 2, call)
    assert lane.ask(memoryview(bytearray(question(2)[0])), 9, "") is None
    assert lane.is_current
    call.is_current = False
    assert not lane.is_current


def test_a_call_that_binds_nothing():
    lane = Lane(IN, OUT, 2, Call(binds=False))
    assert lane.ask(memoryview(bytearray(question(2)[0])), 9, "") is None
    assert not lane.is_current


@pytest.mark.parametrize(
    ("layout", "rows"),
    [
        (BodyLayout([TensorSpec("x", "bool", ("batch",))]), 2),  # each byte is looked at
        (BodyLayout([TensorSpec("x", "float32", ("batch", 2000))]), 2),  # large: not copied
        (IN, 65),
        (IN, 0),
        (BodyLayout([BIAS]), 1),
    ],
)
def test_no_lane(layout: BodyLayout, rows: int):
    call = Call()
    with pytest.raises(EdgedError):
        Lane(layout, OUT, rows, call)
    assert not call.rows
