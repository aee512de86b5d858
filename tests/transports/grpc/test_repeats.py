"""Clients of gRPC that ask the same again: the same answers, the short way."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from edged.errors import ModelNotReadyError, RunError
from edged.messages import InferRequest
from edged.protocol.grpc_call import Head, Status
from edged.protocol.grpc_repeat import REPEAT_BYTES
from edged.protocol.oip_messages import INFER_REQUEST, INFER_RESPONSE
from edged.protocol.protobuf import decode, encode
from edged.serving.scheduling.turn import Turn
from edged.transports.grpc import repeats
from edged.transports.grpc.service import Asker, GrpcService
from tests.fakes.calls import OIP, Call
from tests.fakes.clock import on_loop, until
from tests.fakes.web import Pages
from tests.fakes.wire import EchoCall, EchoDoor
from tests.serving.test_rollout import both, canary, house

X = np.float32([[1, 2]])


@pytest.fixture
def door() -> EchoDoor:
    return EchoDoor()


@pytest.fixture
def service(door: EchoDoor) -> Asker:
    return GrpcService(door, Pages()).asker()


def message(number: int, **changes: Any) -> bytes:
    document = {
        "model_name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2]}],
        "raw_input_contents": [(X * number).tobytes()], **changes,
    }  # fmt: skip
    return encode(INFER_REQUEST, document)


def ask(service: Asker, number: int, changes: Any = None, **head: Any) -> Call:
    return Call(service, OIP + "ModelInfer", message(number, **changes or {}), **head)


def answers(service: Asker, *numbers: int, changes: Any = None) -> None:
    for number in numbers:
        found = decode(INFER_RESPONSE, ask(service, number, changes).message)
        assert (found["model_name"], found["model_version"]) == ("m", "7")
        assert bytes(found["raw_output_contents"][0]) == (X * number).tobytes()


def test_in_turn_with_others(service: Asker, door: EchoDoor) -> None:
    answers(service, *range(1, 10))
    assert (door.prepared, door.lone, len(door.requests)) == (1, [], 9)
    # Several kinds at once, and some that have no like.
    named = {"model_version": "12"}
    for number in range(1, 5):
        answers(service, number)
        answers(service, number, changes=named)
        assert decode(INFER_RESPONSE, ask(service, 1, {"id": "éa"}).message)["id"] == "éa"
    assert door.prepared == 2


@pytest.mark.parametrize("is_quiet", [False, True], ids=["in turn", "alone"])
def test_each_with_an_id_of_its_own(service: Asker, door: EchoDoor, is_quiet: bool) -> None:
    door.is_quiet = is_quiet
    ids = [f"{number:04}" for number in range(20)]
    for number, request_id in enumerate(ids):
        found = decode(INFER_RESPONSE, ask(service, number, {"id": request_id}).message)
        assert found["id"] == request_id
        assert bytes(found["raw_output_contents"][0]) == (X * number).tobytes()
    assert door.prepared == 1
    assert door.keys == [{"id": request_id} for request_id in ids[2:]]
    assert len(door.lone) == (18 if is_quiet else 0)


def test_who_asks_is_said_of_all(
    service: Asker, door: EchoDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a request says of itself may keep it on one side of a rollout."""
    askers: list[object] = []
    prepare = door.prepare
    monkeypatch.setattr(door, "prepare", lambda what: [prepare(what), askers.append(what.asker)][0])
    changes = {"parameters": {"user": {"string": "me"}}}
    answers(service, 1, 2, 3, changes=changes)
    assert askers == [{"user": "me"}]


def test_alone(service: Asker, door: EchoDoor) -> None:
    door.is_quiet = True
    answers(service, *range(1, 10))
    assert (door.bound, len(door.lone), len(door.requests)) == (1, 7, 2)
    door.is_holding = True
    assert ask(service, 3).replies == []


def test_what_cannot_be_bound_is_asked_all_the_same(
    service: Asker, door: EchoDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EchoCall, "bind", lambda *_: None)
    door.is_quiet = True
    answers(service, *range(1, 6))
    assert (door.lone, len(door.requests)) == ([], 5)


def test_a_fault_of_ours_is_answered_and_nothing_of_it_used_again(
    service: Asker, door: EchoDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.is_quiet = True
    answers(service, *range(1, 6))

    def breaks(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(repeats.GrpcLane, "ask", breaks)
        (reply,) = ask(service, 6).replies
        assert (reply.status, "see the log" in reply.text) == (Status.INTERNAL, True)
        answers(service, 7)
    answers(service, *range(1, 4))
    assert door.prepared == 2


def test_a_run_that_goes_on_in_a_worker(service: Asker, door: EchoDoor) -> None:
    door.is_quiet = door.is_late = True
    answers(service, *range(1, 6))
    assert door.adopted == 3


def test_errors_are_answered(service: Asker, door: EchoDoor) -> None:
    answers(service, 1, 2, 3)
    door.error = RunError("m r7: it cannot add")
    reply = ask(service, 4).reply
    assert (reply.status, reply.text) == (Status.INTERNAL, "m r7: it cannot add")
    answers(service, 5, 6, 7)


def test_what_was_swapped_is_looked_up_anew(service: Asker, door: EchoDoor) -> None:
    """The first request after a change goes the long way, where it may be refused."""
    door.is_quiet = True
    answers(service, *range(1, 6))
    lone = len(door.lone)
    door.is_swapped = True
    before = len(door.requests)
    answers(service, 6)
    assert (len(door.lone), len(door.requests)) == (lone, before + 1)


def test_what_cannot_be_prepared_goes_the_long_way(service: Asker, door: EchoDoor) -> None:
    door.refusal = ModelNotReadyError("m: loading")
    answers(service, *range(1, 6))
    assert door.prepared == 0


def test_deadlines_hold(service: Asker, door: EchoDoor) -> None:
    soon = time.monotonic_ns() + 600 * 10**9
    changes = {"parameters": {"timeout": {"int64": 3_600_000_000}}}
    for number in range(1, 5):
        ask(service, number, changes, deadline_ns=soon)
        ask(service, number, changes)
    found = [request.deadline_ns for request in door.requests]
    assert door.prepared == 1
    assert found[0::2] == [soon] * 4
    assert all(one is not None and one > soon for one in found[1::2])


def test_what_waits_is_withdrawn(service: Asker, door: EchoDoor) -> None:
    answers(service, 1, 2, 3)
    door.is_holding = True
    call = ask(service, 4)
    assert call.withdrawal is not None
    call.withdrawal.cancel()
    assert call.reply.status is Status.CANCELLED
    assert door.cancelled == 1


def test_kinds_without_end(service: Asker, door: EchoDoor) -> None:
    for rows in range(1, 60):
        shape = {"name": "x", "datatype": "FP32", "shape": [rows, 2]}
        raw = np.ones((rows, 2), np.float32).tobytes()
        for _ in range(3):
            ask(service, 1, {"inputs": [shape], "raw_input_contents": [raw]})
    assert len(service._inferences._repeats._known) <= 16
    answers(service, 1, 2, 3)


def test_messages_that_are_long_are_few(service: Asker, door: EchoDoor) -> None:
    """There is a connection for each of many clients, so each keeps little."""
    door.is_quiet = True
    for size in range(30_000, 60_000, 2_000):
        changes = {"parameters": {"note": {"string": "a" * size}}}
        answers(service, 1, 2, 3, changes=changes)
    repeats = service._inferences._repeats
    assert 1 < len(repeats._known) < 5
    assert sum(repeats._known) <= 2 * REPEAT_BYTES
    assert sum(repeats._seen) <= 2 * REPEAT_BYTES


def test_alone_again_after_somebody_else_asked(
    service: Asker, door: EchoDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever carries the call asks twice, first on the spot: that is still one request."""
    turn, loop = Turn(), asyncio.new_event_loop()
    head = Head(OIP + "ModelInfer")
    monkeypatch.setattr(EchoCall, "turn", turn)
    monkeypatch.setattr(door, "submit", _through(turn, loop, door.submit))

    def call() -> bool:
        if service.ask_alone(head, message(1)) is not None:
            return True
        answers(service, 1)
        loop.run_until_complete(asyncio.sleep(0))  # the end of the turn
        return False

    for _ in range(2):
        found = [call() for _ in range(16)]
        assert not found[0]
        assert found[-1]
        assert not turn.is_alone("somebody else")
        door.submit(InferRequest("m", {"x": X}), lambda *_: None)
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()


class _Nothing:
    rank, due_ns, expected_ns = 1, 1 << 62, 0

    def pump(self) -> int:
        return 0


def _through(turn: Turn, loop: asyncio.AbstractEventLoop, submit: Any) -> Any:
    def queued(request: InferRequest, on_response: Any) -> Any:
        turn.ask(_Nothing(), loop)
        return submit(request, on_response)

    return queued


def test_on_the_spot(service: Asker, door: EchoDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what has a lane already, and never what runs elsewhere."""
    head = Head(OIP + "ModelInfer")
    door.is_quiet = True
    answers(service, 1, 2)
    assert service.ask_alone(head, message(3)) is None, "there is no lane yet"
    answers(service, 3)
    before = len(door.lone)
    found = service.ask_alone(head, message(4))
    assert found is not None
    assert bytes(decode(INFER_RESPONSE, found)["raw_output_contents"][0]) == (X * 4).tobytes()
    assert len(door.lone) == before + 1
    assert service.ask_alone(head, message(4, model_name="n")) is None
    assert service.ask_alone(Head(OIP + "ModelReady"), message(4)) is None
    door.is_quiet = False
    assert service.ask_alone(head, message(4)) is None
    door.is_quiet = True
    for where, name, value in (
        (door, "is_swapped", True), (door, "is_holding", True),
        (repeats, "ANSWER_BYTES", 8),
    ):  # fmt: skip
        with monkeypatch.context() as changed:
            changed.setattr(where, name, value)
            assert service.ask_alone(head, message(4)) is None, name
            assert len(door.lone) == before + 1
    for call in service._inferences._repeats._known.values():
        call.call.is_apart = True
    assert service.ask_alone(head, message(4)) is None
    assert len(door.lone) == before + 1


@on_loop
async def test_beside_a_canary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared once; each answer is of the side that its head names, also the short way."""
    plane, _ = house(canary(50), *both())
    service = GrpcService(plane, Pages()).asker()
    prepared: list[object] = []
    prepare = plane.prepare
    monkeypatch.setattr(plane, "prepare", lambda what: prepared.append(what) or prepare(what))
    short: list[bool] = []
    lane_ask = repeats.GrpcLane.ask

    def noted(lane: repeats.GrpcLane, *given: Any) -> bytes | None:
        answer = lane_ask(lane, *given)
        short.append(answer is not None)
        return answer

    monkeypatch.setattr(repeats.GrpcLane, "ask", noted)
    x = np.float32([[1, 2, 3, 4]])
    releases = []
    for number in range(60):
        changes = {
            "model_name": "gate",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4]}],
            "raw_input_contents": [(x * number).tobytes()],
        }
        call = Call(service, OIP + "ModelInfer", message(number, **changes))
        await until(lambda call=call: call.replies)
        found = decode(INFER_RESPONSE, call.message)
        releases.append(int(found["model_version"]))
        wanted = x * number * (2 if releases[-1] == 1 else 3)
        assert bytes(found["raw_output_contents"][0]) == wanted.tobytes()
    assert {*releases} == {1, 2}
    assert (len(prepared), len(short) > 40, all(short)) == (1, True, True)
