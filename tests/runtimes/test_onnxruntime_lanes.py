"""Lanes: as many as runs at once, and all their memory given back."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edged.runtimes.onnxruntime_lanes import Lane, Lanes, Ready
from tests.fakes.onnx_device import FakePins

X = np.arange(12, dtype="f4").reshape(3, 4)


class TestLanes:
    def test_no_more_runs_at_once_than_lanes(self):
        lanes = Lanes(None, 1)
        first = lanes.take()
        got: list[object] = []
        waiting = threading.Thread(target=lambda: got.append(lanes.take()))
        waiting.start()
        waiting.join(0.05)
        assert not got
        lanes.give(first)
        waiting.join(30)
        assert got == [first]

    def test_one_in_use_is_given_back_after_its_run(self):
        pins = FakePins()
        lanes = Lanes(pins, 2)
        used, idle = lanes.take(), lanes.take()
        for lane in (used, idle):
            lane.room("x", X.dtype, X.shape, out=False)
        lanes.give(idle)
        lanes.close()
        assert len(pins.live) == 1
        lanes.give(used)
        assert not pins.live

    def test_none_are_given_once_they_are_closed(self):
        lanes = Lanes(None, 1)
        lanes.close()
        with pytest.raises(ValueError, match="closed"):
            lanes.take()


class TestLane:
    def test_memory_of_its_own_is_told_from_any_other(self):
        lane = Lane(FakePins())
        room = lane.room("x", X.dtype, X.shape, out=False)
        assert room is not None
        assert lane.is_own("x", room)
        assert not lane.is_own("x", X)
        assert not lane.is_own("y", room)

    def test_what_is_too_long_or_empty_is_not_pinned(self):
        pins = FakePins()
        lane = Lane(pins)
        assert lane.room("x", np.dtype("f4"), (0, 4), out=False) is None
        assert lane.room("x", np.dtype("f4"), (1 << 24, 4), out=False) is None
        assert not pins.live


def test_ready_for_the_very_types_and_shapes():
    ready = Ready(None, {"x": X}, {})
    assert ready.takes({"x": X + 1})
    for wrong in ({"x": X[:1]}, {"x": X.astype("f8")}, {"x": [1]}, {"z": X}, {"x": X, "z": X}, {}):
        assert not ready.takes(wrong)
