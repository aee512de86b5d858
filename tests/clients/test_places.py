"""How a client's memory is laid out, and what goes by it."""

from __future__ import annotations

import numpy as np
import pytest

from edged.clients.places import LARGE_BYTES, MOST_BYTES, Places, expect, goes_by_memory
from edged.errors import LayoutChangedError, RemoteProtocolError
from edged.messages import InferResponse, PrepareRequest
from edged.protocol import memory, native
from edged.protocol.asking import Plan
from edged.protocol.conversation import InferResult
from edged.protocol.frames import Kind
from edged.protocol.layout import BodyLayout
from edged.protocol.memory import Source, Target
from edged.tensors import TensorSpec
from tests.fakes.wire import only

PLAN = Plan(
    PrepareRequest("m", (TensorSpec("x", "uint8", ("batch", 100)), TensorSpec("z", "int64", (3,))))
)
ANSWERS = BodyLayout([TensorSpec("big", "float32", ("batch", 2048)), TensorSpec("n", "int8", (2,))])


@pytest.fixture
def places():
    made = Places(PLAN, ANSWERS, 2)
    yield made
    made.close()


class TestLayout:
    def test_each_tensor_begins_at_a_multiple_of_64(self, places: Places):
        head = places.head(4, 9)
        assert (head.handle, head.rows) == (4, 2)
        assert head.inputs == [Source(9, 0), Source(9, 256)]
        assert head.outputs == [Target(9, 320, 16384), None]
        assert places.size == 320 + 16384
        assert {name: array.shape for name, array in places.inputs.items()} == {
            "x": (2, 100),
            "z": (3,),
        }
        assert {name: array.shape for name, array in places.outputs.items()} == {"big": (2, 2048)}
        assert [spec.name for spec in places.rest.specs] == ["n"]

    def test_answers_of_unknown_shape_come_along(self):
        made = Places(PLAN, None, 2)
        assert made.head(1, 1).outputs == []
        made.close()

    def test_no_such_rows(self):
        one = Plan(PrepareRequest("m", (TensorSpec("z", "int64", (3,)),)))
        made = Places(one, None, 0)
        assert made.size == 64
        made.close()
        made.close()


class TestFill:
    def test_copies(self, places: Places):
        x, z = np.full((2, 100), 3, np.uint8), np.arange(3)
        assert places.fill({"z": z, "x": x})
        assert (places.inputs["x"] == 3).all()
        assert places.inputs["z"].tolist() == [0, 1, 2]

    @pytest.mark.parametrize(
        "tensors",
        [
            {},
            {"x": np.zeros((2, 100), np.uint8)},
            {"x": np.zeros((1, 100), np.uint8), "z": np.arange(3)},
            {"x": np.zeros((2, 100), np.int8), "z": np.arange(3)},
            {"x": np.zeros((2, 100), np.uint8), "z": [1, 2, 3]},
            {"x": np.zeros((2, 100), np.uint8), "w": np.arange(3)},
        ],
        ids=["nothing", "one of two", "rows", "dtype", "no array", "name"],
    )
    def test_what_is_not_of_the_layout(self, places: Places, tensors: dict):
        assert not places.fill(tensors)


class TestComplete:
    def result(self) -> InferResult:
        return InferResult(InferResponse("m", 1, 1, {"n": np.zeros(2, np.int8)}))

    @pytest.mark.parametrize("copied", [False, True])
    def test_in_the_order_of_the_model(self, places: Places, copied: bool):
        places.outputs["big"][:] = 5
        result = places.complete(self.result(), copied=copied)
        assert list(result) == ["big", "n"]
        assert (result["big"] == 5).all()
        places.outputs["big"][:] = 6
        assert (result["big"] == (5 if copied else 6)).all()

    def test_a_result_has_everything(self, places: Places):
        result = self.result()
        result["big"] = np.zeros(3)
        assert places.complete(result, copied=True)["big"].shape == (3,)


class TestExpect:
    def test_the_frame_or_what_it_says(self):
        frame = only(memory.encode_ready(1))
        assert expect(frame, Kind.READY) is frame
        with pytest.raises(LayoutChangedError, match="gone"):
            expect(only(native.encode_error(1, LayoutChangedError("gone"))), Kind.READY)
        with pytest.raises(RemoteProtocolError, match="expected a frame of kind READY"):
            expect(only(native.encode_reply(1, 5)), Kind.READY)


def test_what_goes_by_memory():
    least = np.zeros(LARGE_BYTES, np.uint8)
    assert goes_by_memory({"x": least})
    assert goes_by_memory({"x": least[1:], "y": least[:1]})
    assert not goes_by_memory({"x": least[1:]})
    assert not goes_by_memory({"x": np.broadcast_to(np.uint8(0), (MOST_BYTES + 1,))})
    assert not goes_by_memory({"x": [0] * LARGE_BYTES})  # type: ignore[dict-item]
