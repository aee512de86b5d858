"""What a prepared call of a client is refused with, again and again."""

from __future__ import annotations

from edged.errors import QueueFullError
from edged.messages import PrepareRequest
from edged.protocol import native
from edged.protocol.frames import Limits
from edged.protocol.layout import BodyLayout
from edged.tensors import TensorSpec
from edged.transports.native.handle import Handle
from tests.fakes.wire import EchoDoor, only

SPECS = (TensorSpec("x", "float32", (1, 2)),)


def test_each_request_has_its_number_and_each_error_its_words() -> None:
    door = EchoDoor()
    handle = Handle(door.prepare(PrepareRequest("m", SPECS)), BodyLayout(SPECS), None)
    assert handle.refused(1, 0, None, "uds:1") is None
    for words in ("full", "still full"):
        door.shut_out = QueueFullError(words)
        for number in (2, 3, 2**64 - 1):
            frame = only(handle.refused(number, 0, None, "uds:1"))
            assert frame.request_id == number
            assert native.decode_response(frame, "m", Limits()).error.message == words
    door.shut_out = None
    assert handle.refused(4, 0, None, "uds:1") is None


def test_guarded_it_asks_the_other_call() -> None:
    door, other = EchoDoor(), EchoDoor()
    handle = Handle(door.prepare(PrepareRequest("m", SPECS)), BodyLayout(SPECS), None)
    door.shut_out = QueueFullError("full")
    guarded = handle.guarded(other.prepare(PrepareRequest("m", SPECS)))
    assert (guarded.inputs, guarded.outputs) == (handle.inputs, None)
    assert guarded.refused(1, 0, None, "uds:1") is None
