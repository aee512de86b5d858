"""What is said of models and of the server over gRPC, asked without a wire."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edged.errors import ModelNotReadyError
from edged.protocol import oip_messages as messages
from edged.protocol.grpc_call import Status
from edged.protocol.protobuf import Schema, decode, encode
from edged.transports.grpc import pages as grpc_pages
from edged.transports.grpc.service import Asker, GrpcService
from tests.fakes.calls import OIP, Call, Stream
from tests.fakes.web import Pages
from tests.fakes.wire import EchoDoor

HEALTH = "/grpc.health.v1.Health/"


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def service(pages: Pages) -> Asker:
    return GrpcService(EchoDoor(), pages).asker()


def named(name: str, version: str = "") -> bytes:
    return encode(messages.NAME_VERSION, {"name": name, "version": version})


def ask(service: Asker, method: str, answer: Schema, message: bytes = b"") -> dict[str, Any]:
    return decode(answer, Call(service, OIP + method, message).message)


def test_health(service: Asker, pages: Pages) -> None:
    assert ask(service, "ServerLive", messages.LIVE) == {"live": True}
    assert ask(service, "ServerReady", messages.READY) == {"ready": True}
    pages.reasons = {"m": "it loads"}
    assert ask(service, "ServerReady", messages.READY) == {}


def test_whether_a_model_is_ready(
    service: Asker, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = named("m", "3")
    assert ask(service, "ModelReady", messages.READY, asked) == {"ready": True}

    def unready(name: str, version: str | None) -> None:
        assert (name, version) == ("m", "3")
        raise ModelNotReadyError("it loads")

    monkeypatch.setattr(pages, "model_ready", unready)
    assert ask(service, "ModelReady", messages.READY, asked) == {}
    reply = Call(service, OIP + "ModelReady", named("m", "new")).reply
    assert reply.status is Status.INVALID_ARGUMENT


def test_the_server(service: Asker) -> None:
    found = ask(service, "ServerMetadata", messages.SERVER_METADATA)
    assert found["name"] == "edged"
    service._service.configure("triton", 1, 1)
    assert ask(service, "ServerMetadata", messages.SERVER_METADATA)["name"] == "triton"


def test_documents(service: Asker, pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
    model = {"name": "m", "versions": ["3"], "platform": "p", "inputs": [tensor], "outputs": []}
    monkeypatch.setattr(pages, "model", lambda name, version: {**model, "version": version})
    found = ask(service, "ModelMetadata", messages.MODEL_METADATA, named("m"))
    assert (found["name"], found["versions"], found["platform"]) == ("m", ["3"], "p")
    assert found["inputs"][0]["datatype"] == "FP32"

    stats = {"name": "m", "version": "3", "inference_count": 5, "batch_stats": [],
             "inference_stats": {"success": {"count": 5, "ns": 70}}}  # fmt: skip
    asked: list[Any] = []

    def statistics(name: str | None, version: str | None) -> Any:
        asked.append((name, version))
        return {"model_stats": [stats]}

    monkeypatch.setattr(pages, "statistics", statistics)
    (one,) = ask(service, "ModelStatistics", messages.STATISTICS, named("m", "3"))["model_stats"]
    assert one["inference_count"] == 5
    assert one["inference_stats"]["success"] == {"count": 5, "ns": 70}
    ask(service, "ModelStatistics", messages.STATISTICS)
    assert asked == [("m", "3"), (None, None)]


def test_a_configuration(service: Asker, pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = {"name": "x", "data_type": "TYPE_FP32", "dims": [4]}
    config = {
        "name": "m", "max_batch_size": 8, "input": [tensor], "output": [tensor],
        "instance_group": [{"name": "m", "kind": "KIND_CPU", "count": 2}],
        "sequence_batching": {}, "response_cache": {"enable": True},
    }  # fmt: skip
    monkeypatch.setattr(pages, "config", lambda *_: config)
    found = ask(service, "ModelConfig", messages.MODEL_CONFIG, named("m"))["config"]
    assert found["max_batch_size"] == 8
    assert found["input"][0]["data_type"] == 11
    assert found["instance_group"] == [{"name": "m", "count": 2, "kind": 2}]
    assert found["sequence_batching"] == {}
    assert found["response_cache"] == {"enable": True}


def test_the_index(service: Asker, pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    def index(*, ready: bool) -> Any:
        return [{"name": "m", "version": "1", "state": "READY" if ready else "LOADING"}]

    monkeypatch.setattr(pages, "index", index)
    asked = encode(messages.INDEX_REQUEST, {"ready": True})
    (one,) = ask(service, "RepositoryIndex", messages.INDEX, asked)["models"]
    assert one == {"name": "m", "version": "1", "state": "READY"}
    (one,) = ask(service, "RepositoryIndex", messages.INDEX)["models"]
    assert one["state"] == "LOADING"
    asked = encode(messages.INDEX_REQUEST, {"repository_name": "other"})
    assert Call(service, OIP + "RepositoryIndex", asked).reply.status is Status.NOT_FOUND


@pytest.mark.parametrize("name", ["", "inference.GRPCInferenceService"])
def test_the_usual_health_check(service: Asker, pages: Pages, name: str) -> None:
    asked = encode(messages.HEALTH_REQUEST, {"service": name})
    found = decode(messages.HEALTH, Call(service, HEALTH + "Check", asked).message)
    assert found == {"status": messages.SERVING}
    pages.reasons = {"m": "it loads"}
    found = decode(messages.HEALTH, Call(service, HEALTH + "Check", asked).message)
    assert found == {"status": messages.NOT_SERVING}


def test_health_of_something_else(service: Asker) -> None:
    asked = encode(messages.HEALTH_REQUEST, {"service": "other"})
    assert Call(service, HEALTH + "Check", asked).reply.status is Status.NOT_FOUND


def statuses(stream: Stream) -> list[int]:
    return [decode(messages.HEALTH, data)["status"] for data in stream.sent]


def test_watching(service: Asker, pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_pages, "_WATCH_S", 0.001)

    async def until(stream: Stream, count: int) -> None:
        while len(stream.sent) < count:  # noqa: ASYNC110 - as a client would see it
            await asyncio.sleep(0.001)

    async def work() -> None:
        stream = Stream(service, HEALTH + "Watch")
        stream.incoming.message(b"")
        stream.incoming.half_close()
        assert statuses(stream) == [messages.SERVING]
        pages.reasons = {"m": "it loads"}
        await until(stream, 2)
        stream.incoming.hold()
        pages.reasons = {}
        await asyncio.sleep(0.01)
        pages.reasons = {"m": "it loads"}
        stream.incoming.release()
        pages.reasons = {}
        await until(stream, 3)
        assert statuses(stream) == [messages.SERVING, messages.NOT_SERVING, messages.SERVING]
        stream.incoming.cancel()
        pages.reasons = {"m": "it loads"}
        await asyncio.sleep(0.01)
        assert len(stream.sent) == 3
        assert stream.ends == []

    asyncio.run(asyncio.wait_for(work(), 30))


@pytest.mark.parametrize("asked", [b"\xff", encode(messages.HEALTH_REQUEST, {"service": "other"})])
def test_watching_something_else(service: Asker, asked: bytes) -> None:
    async def work() -> None:
        stream = Stream(service, HEALTH + "Watch")
        stream.incoming.message(asked)
        stream.incoming.message(asked)
        assert statuses(stream) == [messages.SERVICE_UNKNOWN]
        stream.incoming.cancel()

    asyncio.run(work())
