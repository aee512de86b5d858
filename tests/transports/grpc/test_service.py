"""Which methods there are over gRPC, and what becomes of those that fail."""

from __future__ import annotations

import pytest

from edged.protocol.grpc_call import Shape, Status
from edged.protocol.oip_messages import REGION
from edged.protocol.protobuf import encode
from edged.transports.grpc.service import Asker, GrpcService
from tests.fakes.calls import OIP, Call
from tests.fakes.web import Pages
from tests.fakes.wire import EchoDoor


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def service(pages: Pages) -> Asker:
    return GrpcService(EchoDoor(), pages).asker()


def test_shapes(service: Asker) -> None:
    assert service.shape(OIP + "ModelInfer") is Shape.UNARY
    assert service.shape(OIP + "ModelStreamInfer") is Shape.STREAM
    assert service.shape("/grpc.health.v1.Health/Watch") is Shape.WATCH
    assert service.shape(OIP + "Nothing") is None
    assert service.shape("/other.Service/ModelInfer") is None


def test_messages_that_are_none(service: Asker) -> None:
    reply = Call(service, OIP + "ServerReady", b"\xff").reply
    assert (reply.status, reply.parts) == (Status.INVALID_ARGUMENT, [])
    assert "Unable to parse" in reply.text


def test_what_breaks_is_told_without_its_words(
    service: Asker, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("/secret")

    monkeypatch.setattr(pages, "unready", broken)
    reply = Call(service, OIP + "ServerReady").reply
    assert reply.status is Status.INTERNAL
    assert "secret" not in reply.text


@pytest.mark.hostile("B12 load and unload through the inference socket")
@pytest.mark.parametrize(
    "method", ["RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting", "LogSettings"]
)
def test_what_only_administrators_may(service: Asker, method: str) -> None:
    reply = Call(service, OIP + method, b"\x12\x01m").reply
    assert reply.status is Status.PERMISSION_DENIED
    assert f"{method} is not allowed" in reply.text


@pytest.mark.parametrize("verb", ["Status", "Register", "Unregister"])
def test_memory_by_name_is_off(service: Asker, verb: str) -> None:
    message = encode(REGION, {"name": "r", "key": "/k", "byte_size": 8})
    reply = Call(service, f"{OIP}SystemSharedMemory{verb}", message).reply
    assert reply.status is Status.PERMISSION_DENIED
    assert "listen.shared_memory" in reply.text


@pytest.mark.parametrize("verb", ["Status", "Register", "Unregister"])
def test_memory_of_a_gpu_is_not_served(service: Asker, verb: str) -> None:
    reply = Call(service, f"{OIP}CudaSharedMemory{verb}").reply
    assert reply.status is Status.UNIMPLEMENTED
