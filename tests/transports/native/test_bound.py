"""What is read where it lies and what is copied; runs of an asker who is alone."""

from __future__ import annotations

import numpy as np
import pytest

from edged.errors import RunError, TensorMismatchError
from edged.messages import InferResponse, LentInputs, PrepareRequest
from edged.protocol import prepared_runs
from edged.protocol.layout import BodyLayout
from edged.tensors import TensorSpec
from edged.transports.native.bound import Bound, Fixed, check_bools, may_stay
from tests.fakes.wire import EchoCall, EchoDoor, only

SPEC = TensorSpec("x", "float32", ("batch", 2048))
LAYOUT = BodyLayout([SPEC])


def aligned(shape: tuple[int, ...], dtype: str = "float32", at: int = 0) -> np.ndarray:
    room = np.zeros(8 * int(np.prod(shape, dtype=int)) + 256, np.uint8)
    start = -room.ctypes.data % 64 + at
    return np.ndarray(shape, dtype, room, start)


def bound(door: EchoDoor, rows: int = 1, **given: object) -> tuple[Bound, np.ndarray, np.ndarray]:
    call = EchoCall(door, PrepareRequest("m", (SPEC,)), **given)
    place, target = aligned((rows, 2048)), aligned((rows, 2048))
    fixed = Fixed(call, LAYOUT, LAYOUT, rows)
    return Bound(fixed, {"x": place}, {"x": target}, frozenset((1,))), place, target


class TestMayStay:
    @pytest.mark.parametrize(
        "dtype", ["uint8", "int8", "int16", "uint16", "float16", "float32", "float64"]
    )
    def test_numbers_that_are_computed_with(self, dtype: str):
        assert may_stay(aligned((8192,), dtype))

    @pytest.mark.parametrize("dtype", ["bool", "int32", "int64", "uint32", "uint64"])
    def test_numbers_that_may_be_places(self, dtype: str):
        assert not may_stay(aligned((8192,), dtype))

    def test_small_or_not_aligned(self):
        assert not may_stay(aligned((4096,), "uint8"))
        assert may_stay(aligned((4097,), "uint8"))
        assert not may_stay(aligned((8192,), "uint8", at=32))


def test_bools():
    check_bools("x", np.array([True, False]))
    check_bools("x", np.array([7], np.uint8))
    check_bools("x", np.zeros(0, bool))
    with pytest.raises(TensorMismatchError, match='"x": a byte of a bool'):
        check_bools("x", np.array([7], np.uint8).view(bool))


class TestRead:
    def test_says_that_it_is_lent(self):
        one, place, _ = bound(EchoDoor())
        inputs = one.read()
        assert type(inputs) is LentInputs
        assert inputs["x"] is place


class TestAnswer:
    def test_writes_to_the_place(self):
        one, _, target = bound(EchoDoor())
        response = InferResponse("m", 7, 3, {"x": np.full((1, 2048), 5, np.float32)}, None, 1, 2, 1)
        frame = only(one.answer(9, response) or [])
        assert prepared_runs.decode_answer(frame, "m", BodyLayout([])).outputs == {}
        assert (target == 5).all()

    @pytest.mark.parametrize(
        "outputs",
        [
            {},
            {"x": np.ones((2, 2048), np.float32)},
            {"x": np.ones((1, 2048), np.float64)},
            {"x": np.ones((1, 1), np.float32)},
        ],
        ids=["missing", "rows", "dtype", "would fill it"],
    )
    def test_other_outputs_are_not_written(self, outputs: dict):
        one, _, target = bound(EchoDoor())
        assert one.answer(9, InferResponse("m", 7, 3, outputs)) is None
        assert not target.any()


class TestAlone:
    def test_reads_and_writes_where_it_lies(self):
        door = EchoDoor()
        one, place, target = bound(door)
        place[:] = 3
        assert one.ask_alone(5, "me") is not None
        assert (target == 3).all()
        assert one.ask_alone(6, "me") is not None
        assert (door.bound, door.lone) == (1, ["me", "me"])

    @pytest.mark.parametrize("why", ["apart", "rows", "holding"])
    def test_goes_the_usual_way(self, why: str):
        door = EchoDoor()
        one, _, _ = bound(door, rows=65 if why == "rows" else 1, is_apart=why == "apart")
        door.is_holding = why == "holding"
        assert one.ask_alone(5, "me") is None

    def test_what_cannot_be_bound(self, monkeypatch: pytest.MonkeyPatch):
        def refuse(*_: object) -> None:
            raise RunError("no")

        monkeypatch.setattr(EchoCall, "bind", refuse)
        assert bound(EchoDoor())[0].ask_alone(5, "me") is None

    def test_much_that_must_be_copied_is_left_to_the_usual_way(self):
        door = EchoDoor()
        spec = TensorSpec("x", "int64", ("batch", 1 << 17))
        layout = BodyLayout([spec])
        call = EchoCall(door, PrepareRequest("m", (spec,)))
        array = aligned((1, 1 << 17), "int64")
        one = Bound(Fixed(call, layout, layout, 1), {"x": array}, {"x": array.copy()}, frozenset())
        assert one.ask_alone(5, "me") is None
        assert door.bound == 0

    def test_is_bound_again_when_something_moved(self):
        door = EchoDoor()
        one, _, _ = bound(door)
        one.ask_alone(5, "me")
        assert one._lone is not None
        assert one._lone.run is not None
        one._lone.run.is_current = False  # type: ignore[misc]
        one.ask_alone(6, "me")
        assert door.bound == 2
