"""ModelInfer, asked without a wire."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from edged.errors import QueueFullError
from edged.messages import InferResponse, SequencedRequest
from edged.protocol.grpc_call import Status
from edged.protocol.oip_messages import INFER_REQUEST, INFER_RESPONSE
from edged.protocol.protobuf import decode, encode
from edged.transports.grpc.service import Asker, GrpcService
from tests.fakes.calls import OIP, Call
from tests.fakes.web import Pages
from tests.fakes.wire import EchoDoor

X = np.float32([[1, 2]])
INFER = OIP + "ModelInfer"


@pytest.fixture
def door() -> EchoDoor:
    return EchoDoor()


@pytest.fixture
def service(door: EchoDoor) -> Asker:
    return GrpcService(door, Pages()).asker()


def message(**changes: Any) -> bytes:
    document = {
        "model_name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2]}],
        "raw_input_contents": [X.tobytes()], **changes,
    }  # fmt: skip
    return encode(INFER_REQUEST, document)


def test_there_and_back(service: Asker, door: EchoDoor) -> None:
    call = Call(service, INFER, message(model_version="4", id="a"), origin="grpc:5")
    found = decode(INFER_RESPONSE, call.message)
    assert (found["model_version"], found["id"]) == ("7", "a")
    assert bytes(found["raw_output_contents"][0]) == X.tobytes()
    (request,) = door.requests
    assert (request.model, request.release, request.origin) == ("m", 4, "grpc:5")
    assert request.deadline_ns is None


def test_the_earlier_deadline_holds(service: Asker, door: EchoDoor) -> None:
    soon, late = time.monotonic_ns() + 10**9, time.monotonic_ns() + 3600 * 10**9
    parameters = {"timeout": {"int64": 60_000_000}}
    Call(service, INFER, message(parameters=parameters), deadline_ns=soon)
    Call(service, INFER, message(parameters=parameters), deadline_ns=late)
    Call(service, INFER, message(), deadline_ns=late)
    Call(service, INFER, message(parameters=parameters))
    first, second, third, fourth = [request.deadline_ns for request in door.requests]
    assert (first, third) == (soon, late)
    assert second is not None
    assert fourth is not None
    assert soon < second <= fourth < late


def test_a_sequence(service: Asker, door: EchoDoor) -> None:
    parameters = {"sequence_id": {"int64": 9}, "sequence_start": {"bool": True}}
    assert Call(service, INFER, message(parameters=parameters)).message
    (request,) = door.requests
    assert isinstance(request, SequencedRequest)
    assert (request.sequence.id, request.sequence.start) == (9, True)


def test_classes_have_names(service: Asker) -> None:
    outputs = [{"name": "x", "parameters": {"classification": {"int64": 1}}}]
    found = decode(INFER_RESPONSE, Call(service, INFER, message(outputs=outputs)).message)
    assert bytes(found["raw_output_contents"][0])[4:] == b"2.000000:1:b"


def test_what_waits_is_withdrawn(service: Asker, door: EchoDoor) -> None:
    door.is_holding = True
    call = Call(service, INFER, message())
    assert call.replies == []
    assert call.withdrawal is not None
    call.withdrawal.cancel()
    assert door.cancelled == 1
    assert call.reply.status is Status.CANCELLED


def test_requests_that_are_none(service: Asker, door: EchoDoor) -> None:
    for data in (b"\x0a\x05m", message(raw_input_contents=[b"1"])):
        reply = Call(service, INFER, data).reply
        assert reply.status is Status.INVALID_ARGUMENT
    assert door.requests == []


def test_errors(service: Asker, door: EchoDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    error = QueueFullError("é" * 5000, retry_after_ns=1_500_001)

    def refuse(_: Any, on_response: Any) -> None:
        on_response(InferResponse("m", 7, 3, error=error), True)

    monkeypatch.setattr(door, "submit", refuse)
    reply = Call(service, INFER, message()).reply
    assert reply.status is Status.RESOURCE_EXHAUSTED
    assert reply.text.startswith("Exceeds maximum queue size")
    assert len(reply.text) < 2100
    assert reply.trailers == (("grpc-retry-pushback-ms", "2"),)


def test_an_answer_that_cannot_be_written(
    service: Asker, door: EchoDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(_: Any, on_response: Any) -> None:
        on_response(InferResponse("m", 7, 3, {"x": np.array([1j])}), True)

    monkeypatch.setattr(door, "submit", odd)
    reply = Call(service, INFER, message()).reply
    assert (reply.status, reply.parts) == (Status.INTERNAL, [])
