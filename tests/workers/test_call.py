"""What a worker's load agreed on: lanes are made once for a number of rows, and for one thread."""

from __future__ import annotations

import numpy as np

from edged.tensors import TensorSpec
from edged.workers.call import PreparedCall
from tests.fakes.model import FakeSession

X, Y = TensorSpec("x", "float32", ("batch", 4)), TensorSpec("y", "float32", ("batch", 4))


def test_a_lane_for_each_number_of_rows():
    call = PreparedCall(FakeSession(), (X,), (Y,))
    one = call.lane(1)
    assert one is not None
    assert call.lane(1) is one
    assert call.lane(2) is not one
    call.forget()
    assert call.lane(1) is not one


def test_another_thread_s_has_the_layout_and_memory_of_its_own():
    call = PreparedCall(FakeSession(), (X,), (Y,))
    other = call.beside()
    assert other.inputs.rows_of({"x": np.ones((3, 4), np.float32)}) == 3
    assert (other.answers is None) == (call.answers is None)
    one, lane = call.lane(1), other.lane(1)
    assert one is not None
    assert lane is not None
    assert one is not lane
    assert one.size == lane.size
