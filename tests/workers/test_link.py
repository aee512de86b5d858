"""The bytes to and from a worker: what is sent in pieces, what is no answer, what repeats."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest

from edged.errors import LoadError, RemoteProtocolError, RunError
from edged.messages import InferResponse
from edged.protocol import native
from edged.protocol.frames import Frame, FrameReader, Kind, Limits
from edged.workers.link import WorkerLink
from tests.fakes.wire import joined

X = np.arange(8, dtype=np.float32).reshape(2, 4)


class Ends:
    """A link and the worker's end of its socket."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.theirs.settimeout(10)
        self.link = WorkerLink(self.ours, "gate")
        self._reader = FrameReader(Limits(body_bytes=1 << 30))

    def frame(self) -> Frame:
        while True:
            frames = self._reader.feed(self.theirs.recv(1 << 16))
            if frames:
                return frames[0]

    def answer(self, number: int, **outputs: np.ndarray) -> None:
        response = InferResponse("gate", 0, 0, outputs)
        self.theirs.sendall(joined(native.encode_response(number, response)))


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.ours.close()
    made.theirs.close()


def test_there_and_back_again(ends: Ends) -> None:
    """The second round takes the short way; nobody can tell."""
    for number in (1, 2, 3):
        ends.link.request({"x": X * number})
        ends.link.send()
        assert not ends.link.is_sending
        frame = ends.frame()
        assert (frame.kind, frame.request_id) == (Kind.INFER, number)
        request, _ = native.decode_infer(frame, Limits())
        assert request.model == "gate"
        np.testing.assert_array_equal(request.inputs["x"], X * number)
        ends.answer(number, y=X + number)
        answer = ends.link.exchange(time.monotonic() + 10)
        np.testing.assert_array_equal(ends.link.outputs(answer)["y"], X + number)


def test_a_large_request_leaves_in_pieces(ends: Ends) -> None:
    large = np.arange(4 << 20, dtype=np.uint8).reshape(-1, 4)
    ends.link.request({"x": large})
    ends.link.send()
    assert ends.link.is_sending
    frames = []
    reader = FrameReader(Limits(body_bytes=1 << 30))
    while not frames:
        frames = reader.feed(ends.theirs.recv(1 << 20))
        ends.link.send()
    assert not ends.link.is_sending
    request, _ = native.decode_infer(frames[0], Limits())
    np.testing.assert_array_equal(request.inputs["x"], large)


def test_forget(ends: Ends) -> None:
    ends.link.request({"x": np.zeros(8 << 20, np.uint8)})
    ends.link.send()
    ends.link.forget()
    assert not ends.link.is_sending


def test_only_the_last_request_is_answered(ends: Ends) -> None:
    ends.link.request({"x": X})
    ends.link.request({"x": X})
    ends.answer(1, y=X)
    assert ends.link.receive() == []
    ends.answer(2, y=X)
    frames = ends.link.receive()
    assert frames is not None
    assert [frame.request_id for frame in frames] == [2]
    assert ends.link.receive() is None


def test_the_other_end_is_closed(ends: Ends) -> None:
    ends.theirs.close()
    with pytest.raises(ConnectionError):
        ends.link.receive()
    ends.link.request({"x": X})
    with pytest.raises(OSError, match="pipe"):
        ends.link.send()


def test_no_answer_in_time(ends: Ends) -> None:
    ends.link.request({"x": X})
    with pytest.raises(TimeoutError):
        ends.link.exchange(time.monotonic())


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\n\r\n" + bytes(32)])
def test_not_the_protocol(ends: Ends, data: bytes) -> None:
    ends.theirs.sendall(data)
    with pytest.raises(RemoteProtocolError):
        ends.link.receive()


def test_errors_of_a_run(ends: Ends) -> None:
    for error in (RunError("it failed"), LoadError("odd")):
        ends.link.request({"x": X})
        number = 1 if error.message == "it failed" else 2
        ends.theirs.sendall(joined(native.encode_error(number, error)))
        ends.link.send()
        frame = ends.link.exchange(time.monotonic() + 10)
        with pytest.raises(RunError, match=error.message):
            ends.link.outputs(frame)


def test_an_answer_that_is_none_is_not_the_callers_fault(ends: Ends) -> None:
    ends.link.request({"x": X})
    ends.theirs.sendall(joined(native.encode_reply(1, {})))
    frame = ends.link.exchange(time.monotonic() + 10)
    with pytest.raises(RemoteProtocolError, match="none"):
        ends.link.outputs(frame)
