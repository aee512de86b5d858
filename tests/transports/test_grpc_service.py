"""Every method over gRPC, asked without a wire."""

from __future__ import annotations

import pytest

from edged.errors import ModelNotReadyError
from edged.protocol import oip_messages as messages
from edged.protocol.grpc_call import Shape, Status
from edged.protocol.protobuf import decode, encode
from edged.transports.grpc_service import GrpcService
from tests.fakes.calls import OIP, Call
from tests.fakes.web import Pages
from tests.fakes.wire import EchoDoor


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def service(pages: Pages) -> GrpcService:
    return GrpcService(EchoDoor(), pages)


def named(name: str, version: str = "") -> bytes:
    return encode(messages.NAME_VERSION, {"name": name, "version": version})


def test_shapes(service: GrpcService) -> None:
    assert service.shape(OIP + "ModelInfer") is Shape.UNARY
    assert service.shape(OIP + "Nothing") is None
    assert service.shape("/other.Service/ModelInfer") is None


def test_health(service: GrpcService, pages: Pages) -> None:
    assert decode(messages.LIVE, Call(service, OIP + "ServerLive").message) == {"live": True}
    assert decode(messages.READY, Call(service, OIP + "ServerReady").message) == {"ready": True}
    pages.reasons = {"m": "it loads"}
    assert decode(messages.READY, Call(service, OIP + "ServerReady").message) == {}


def test_whether_a_model_is_ready(
    service: GrpcService, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = named("m", "3")
    ready = Call(service, OIP + "ModelReady", asked).message
    assert decode(messages.READY, ready) == {"ready": True}

    def unready(name: str, version: str | None) -> None:
        assert (name, version) == ("m", "3")
        raise ModelNotReadyError("it loads")

    monkeypatch.setattr(pages, "model_ready", unready)
    assert Call(service, OIP + "ModelReady", asked).message == b""
    reply = Call(service, OIP + "ModelReady", named("m", "new")).reply
    assert reply.status is Status.INVALID_ARGUMENT


def test_messages_that_are_none(service: GrpcService) -> None:
    reply = Call(service, OIP + "ServerReady", b"\xff").reply
    assert (reply.status, reply.parts) == (Status.INVALID_ARGUMENT, [])
    assert "Unable to parse" in reply.text


def test_what_breaks_is_told_without_its_words(
    service: GrpcService, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("/secret")

    monkeypatch.setattr(pages, "unready", broken)
    reply = Call(service, OIP + "ServerReady").reply
    assert reply.status is Status.INTERNAL
    assert "secret" not in reply.text


def test_the_limit_is_the_inferences(service: GrpcService) -> None:
    service.max_request_bytes = 5
    assert service.max_request_bytes == 5
