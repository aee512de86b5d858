"""What one client asked for, without a socket: under which id which answer leaves."""

from __future__ import annotations

import asyncio
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from edged.errors import (
    CancelledError,
    EdgedError,
    LayoutChangedError,
    QueueFullError,
    RemoteProtocolError,
    TensorMismatchError,
)
from edged.messages import InferRequest, InferResponse, PrepareRequest
from edged.protocol import native, prepared, prepared_runs
from edged.protocol.frames import Frame, Kind, Limits, encode_frame
from edged.protocol.layout import BodyLayout
from edged.protocol.prepared_runs import RunHead
from edged.tensors import TensorSpec
from edged.transports.native import requests as native_requests
from edged.transports.native.requests import Requests
from tests.fakes.clock import on_loop, turns
from tests.fakes.wire import EchoDoor, joined, only

X = np.arange(8, dtype=np.float32).reshape(2, 4)
SPEC = TensorSpec("x", "float32", ("batch", 4))
LAYOUT = BodyLayout([SPEC])


class Desk:
    """Requests with an echo behind them; ``ask`` hands in a frame, ``said`` is what was written."""

    def __init__(self, max_in_flight: int = 10) -> None:
        self.door = EchoDoor()
        self.said: list[Frame] = []
        self.idle = 0
        self.server = SimpleNamespace(
            door=self.door, calls={"wait": self.wait}, limits=Limits(),
            max_in_flight=max_in_flight, requests=0,
        )  # fmt: skip
        self.requests = Requests(self.server, self.write, self.on_answered)
        self.gate = asyncio.Event()

    async def wait(self, arguments: dict) -> str:
        await self.gate.wait()
        return "at last"

    def write(self, buffers: list) -> None:
        self.said.append(only(buffers))

    def on_answered(self) -> None:
        self.idle += 1

    def prepare(self, number: int = 1) -> int:
        frame = only(prepared.encode_prepare(number, PrepareRequest("m", (SPEC,))))
        self.requests.handle(frame)
        return prepared.decode_prepared(self.said.pop(), Limits())[0].handle

    def run(self, handle: int, number: int, x: np.ndarray = X, timeout_us: int = 0) -> None:
        head = RunHead(handle, len(x), timeout_us)
        self.requests.run(only(prepared_runs.encode_run(number, head, LAYOUT, {"x": x})))

    def infer(self, number: int) -> None:
        self.requests.infer(only(native.encode_infer(number, InferRequest("m", {"x": X}))))

    def answer(self) -> InferResponse:
        frame = self.said.pop(0)
        if frame.kind == Kind.ANSWER:
            return prepared_runs.decode_answer(frame, "m", LAYOUT)
        return native.decode_response(frame, "m", Limits())

    def error(self) -> EdgedError:
        error = self.answer().error
        assert error is not None
        return error


class TestPrepared:
    @on_loop
    async def test_an_answer(self):
        desk = Desk()
        handle = desk.prepare()
        desk.run(handle, 5, X * 3)
        assert [(frame.kind, frame.request_id) for frame in desk.said] == [(Kind.ANSWER, 5)]
        response = desk.answer()
        np.testing.assert_array_equal(response.outputs["x"], X * 3)
        assert (response.release, response.generation) == (7, 3)
        assert (desk.server.requests, desk.idle) == (1, 1)

    @on_loop
    async def test_a_timeout_becomes_a_deadline(self):
        desk = Desk()
        handle = desk.prepare()
        desk.run(handle, 5)
        desk.run(handle, 6, timeout_us=2**62)
        assert desk.door.requests[0].deadline_ns is None
        assert desk.door.requests[1].deadline_ns > 2**62 * 1000

    @on_loop
    async def test_outputs_that_were_not_announced_go_as_a_result(self):
        desk = Desk()
        desk.door.is_holding = True
        desk.run(desk.prepare(), 5)
        desk.door.held[0][1](InferResponse("m", 7, 3, {"x": X[:1]}), True)
        assert desk.said[0].kind == Kind.RESULT
        np.testing.assert_array_equal(desk.answer().outputs["x"], X[:1])

    @on_loop
    async def test_errors_go_as_any_error(self):
        desk = Desk()
        desk.door.error = LayoutChangedError("prepare it again")
        desk.run(desk.prepare(), 5)
        assert isinstance(desk.error(), LayoutChangedError)

    @on_loop
    async def test_refused_as_the_one_before(self):
        desk = Desk()
        handle = desk.prepare()
        for error in (
            QueueFullError("its queue is full", retry_after_ns=5),
            QueueFullError("soon"),
        ):
            desk.door.shut_out = error
            for number in (5, 2**63):
                desk.run(handle, number)
                assert desk.said[0].request_id == number
                said = native.decode_response(desk.said.pop(0), "m", Limits())
                assert (said.error.message, said.error.retry_after_ns) == (
                    error.message, error.retry_after_ns,
                )  # fmt: skip
                assert (said.release, said.generation) == (7, 3)
        assert not desk.door.requests
        assert desk.server.requests == 4
        desk.door.shut_out = None
        desk.run(handle, 5)
        assert desk.answer().error is None

    @on_loop
    async def test_a_handle_that_is_not_open(self):
        desk = Desk()
        first, second = desk.prepare(), desk.prepare(2)
        assert first != second
        desk.requests.handle(only(prepared.encode_forget(first)))
        desk.requests.handle(only(prepared.encode_forget(first)))
        for handle in (first, 0, 2**32 - 1):
            desk.run(handle, 5)
            assert isinstance(desk.error(), LayoutChangedError)
        desk.run(second, 5)
        assert desk.answer().error is None

    @on_loop
    async def test_a_handle_is_never_used_for_another_call(self):
        desk = Desk()
        first = desk.prepare()
        desk.requests.handle(only(prepared.encode_forget(first)))
        assert desk.prepare() > first

    @on_loop
    async def test_a_body_that_is_not_of_the_layout(self):
        desk = Desk()
        frame = only(encode_frame(Kind.RUN, 5, run_head(desk.prepare(), 3), [X.tobytes()]))
        desk.requests.run(frame)
        assert isinstance(desk.error(), TensorMismatchError)
        desk.requests.run(only(encode_frame(Kind.RUN, 5, b"short", [])))
        assert "a head of 5 bytes" in desk.error().message
        assert not desk.door.requests

    @on_loop
    async def test_handles_are_bounded(self):
        desk = Desk()
        for number in range(native_requests._HANDLES):
            desk.prepare(number + 1)
        desk.requests.handle(only(prepared.encode_prepare(9999, PrepareRequest("m", (SPEC,)))))
        assert isinstance(desk.error(), QueueFullError)


def run_head(handle: int, rows: int) -> bytes:
    return prepared_runs._RUN_HEAD.pack(handle, rows, 0)


class TestIds:
    @pytest.mark.parametrize("second", ["run", "infer", "call", "prepare"])
    @pytest.mark.parametrize("first", ["run", "infer", "call"])
    @on_loop
    async def test_an_id_twice_in_flight(self, first: str, second: str):
        """SECURITY A: same request id twice in flight -> second refused; answers never mixed."""
        desk = Desk()
        desk.door.is_holding = True
        handle = desk.prepare()
        ask = {
            "run": lambda: desk.run(handle, 5),
            "infer": lambda: desk.infer(5),
            "call": lambda: desk.requests.handle(only(native.encode_call(5, "wait", {}))),
            "prepare": lambda: desk.prepare(5),
        }
        ask[first]()
        with pytest.raises(RemoteProtocolError, match="request id 5 is already in flight"):
            ask[second]()
        assert not desk.said, "nothing left under the first one's id"
        desk.requests.withdraw_all()
        await turns()

    @pytest.mark.parametrize("ask", ["run", "infer"])
    @on_loop
    async def test_id_0_is_the_connection(self, ask: str):
        desk = Desk()
        with pytest.raises(RemoteProtocolError, match="request id 0"):
            desk.infer(0) if ask == "infer" else desk.run(desk.prepare(), 0)

    @on_loop
    async def test_too_many_in_flight(self):
        desk = Desk(max_in_flight=2)
        desk.door.is_holding = True
        handle = desk.prepare()
        desk.run(handle, 1)
        desk.infer(2)
        for ask in (
            lambda: desk.run(handle, 3),
            lambda: desk.infer(3),
            lambda: desk.requests.handle(only(native.encode_call(3, "wait", {}))),
        ):
            ask()
            assert isinstance(desk.error(), QueueFullError)
        desk.door.release_all()
        assert {frame.request_id for frame in desk.said} == {1, 2}


class TestCancel:
    @on_loop
    async def test_what_waits_is_answered_cancelled(self):
        desk = Desk()
        desk.door.is_holding = True
        handle = desk.prepare()
        desk.run(handle, 5)
        desk.infer(6)
        for number in (5, 6):
            desk.requests.handle(only(native.encode_cancel(number)))
            assert desk.said[0].request_id == number
            assert isinstance(desk.error(), CancelledError)
        assert desk.door.cancelled == 2
        assert not desk.requests.are_in_flight

    @on_loop
    async def test_what_is_not_in_flight_is_ignored(self):
        desk = Desk()
        handle = desk.prepare()
        desk.run(handle, 5)
        desk.said.clear()
        for number in (0, 5, 77):
            desk.requests.handle(only(native.encode_cancel(number)))
        assert not desk.said

    @on_loop
    async def test_what_runs_is_answered_as_usual(self):
        desk = Desk()
        desk.door.is_holding = True
        desk.run(desk.prepare(), 5)
        held, desk.door.held = desk.door.held, []  # taken out of the queue: it runs
        desk.requests.handle(only(native.encode_cancel(5)))
        assert not desk.said
        desk.door.held = held
        desk.door.release_all()
        assert desk.answer().error is None

    @on_loop
    async def test_a_call_is_answered_as_usual(self):
        desk = Desk()
        desk.requests.handle(only(native.encode_call(5, "wait", {})))
        desk.requests.handle(only(native.encode_cancel(5)))
        desk.gate.set()
        await turns()
        assert native.decode_reply(desk.said.pop()) == "at last"

    @on_loop
    async def test_a_client_that_is_gone_has_nothing_run(self):
        desk = Desk()
        desk.door.is_holding = True
        handle = desk.prepare()
        for number in range(1, 4):
            desk.run(handle, number)
        desk.requests.handle(only(native.encode_call(5, "wait", {})))
        desk.requests.withdraw_all()
        await turns()
        assert desk.door.cancelled == 3
        assert not desk.door.held


@on_loop
async def test_who_is_gone_keeps_no_memory_of_runs():
    """The turn knows it as the last asker until another one comes."""
    desk = Desk()
    desk.door.is_quiet = True
    frame = joined(prepared_runs.encode_run(2, RunHead(desk.prepare(), 2, 0), LAYOUT, {"x": X}))
    assert desk.requests.take_run(memoryview(frame), len(frame))
    (lane,) = map(weakref.ref, desk.requests._lanes.values())
    desk.requests.withdraw_all()
    assert lane() is None
