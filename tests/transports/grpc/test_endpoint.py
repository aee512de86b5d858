"""grpcio's server on a real socket, asked by grpcio's client with bare bytes."""

from __future__ import annotations

import os
import queue
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

grpc = pytest.importorskip("grpc")

from edged.config.listen import GrpcConfig  # noqa: E402
from edged.errors import ApplyError  # noqa: E402
from edged.messages import InferResponse  # noqa: E402
from edged.protocol.oip_messages import (  # noqa: E402
    INFER_REQUEST,
    INFER_RESPONSE,
    NAME_VERSION,
    STREAM_RESPONSE,
)
from edged.protocol.protobuf import decode, encode  # noqa: E402
from tests.compat.stand import free_port  # noqa: E402
from tests.fakes.calls import OIP  # noqa: E402
from tests.fakes.house import eventually  # noqa: E402
from tests.fakes.rpc import Rpc, config  # noqa: E402

X = np.float32([[1, 2]])
WAIT_S = 30


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rpc") / "g"


@pytest.fixture(scope="module")
def started(path: Path) -> Iterator[Rpc]:
    made = Rpc().start(path, max_request=1 << 20)
    yield made
    made.stop()
    assert made.trouble == []


@pytest.fixture
def rpc(started: Rpc) -> Iterator[Rpc]:
    started.door.requests.clear()
    yield started
    started.call(started.door.release_all)
    started.door.is_holding = False
    started.door.cancelled = 0


@pytest.fixture
def channel(rpc: Rpc, path: Path) -> Iterator[Any]:
    with grpc.insecure_channel(f"unix:{path}") as made:
        yield made


def message(**changes: Any) -> bytes:
    document = {
        "model_name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2]}],
        "raw_input_contents": [X.tobytes()], **changes,
    }  # fmt: skip
    return encode(INFER_REQUEST, document)


def ask(channel: Any, data: bytes, method: str = "ModelInfer", **options: Any) -> bytes:
    return channel.unary_unary(OIP + method)(data, **{"timeout": WAIT_S, **options})


def refused(channel: Any, *arguments: Any, **options: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, *arguments, **options)
    return caught.value


def test_there_and_back(rpc: Rpc, channel: Any) -> None:
    found = decode(INFER_RESPONSE, ask(channel, message(id="a")))
    assert found["id"] == "a"
    assert bytes(found["raw_output_contents"][0]) == X.tobytes()
    (request,) = rpc.door.requests
    assert request.origin == f"grpc:{os.getuid()}"
    assert request.deadline_ns is not None
    ask(channel, message(), timeout=None)
    assert rpc.door.requests[-1].deadline_ns is None


def test_later(rpc: Rpc, channel: Any) -> None:
    rpc.door.is_holding = True
    call = channel.unary_unary(OIP + "ModelInfer").future(message(), timeout=WAIT_S)
    eventually(lambda: rpc.door.held)
    rpc.call(rpc.door.release_all)
    assert decode(INFER_RESPONSE, call.result())["model_name"] == "m"


@pytest.mark.hostile("C4 a deadline that passes in the queue")
@pytest.mark.parametrize("timeout", [None, 1.0])
def test_what_waits_is_withdrawn_when_nobody_waits_for_it(
    rpc: Rpc, channel: Any, timeout: float | None
) -> None:
    rpc.door.is_holding = True
    call = channel.unary_unary(OIP + "ModelInfer").future(message(), timeout=timeout)
    if timeout is None:
        eventually(lambda: rpc.door.held)
        call.cancel()
    else:
        with pytest.raises(grpc.RpcError) as caught:
            call.result()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: not rpc.door.held and rpc.door.cancelled == len(rpc.door.requests))


def test_a_client_that_dies(rpc: Rpc, path: Path) -> None:
    rpc.door.is_holding = True
    with grpc.insecure_channel(f"unix:{path}") as channel:
        # Kept: one that nobody refers to is cancelled.
        call = channel.unary_unary(OIP + "ModelInfer").future(message())
        eventually(lambda: rpc.door.held)
    eventually(lambda: rpc.door.cancelled == 1)
    assert call.done()


def test_errors(channel: Any) -> None:
    error = refused(channel, message(raw_input_contents=[b"1"]))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "raw_input_contents" in error.details()
    error = refused(channel, encode(NAME_VERSION, {"name": "nope"}), "ModelMetadata")
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details().startswith("Request for unknown model")
    error = refused(channel, b"", "Nothing")
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_over_the_limit(rpc: Rpc, channel: Any) -> None:
    error = refused(channel, bytes(3 << 20))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    shape = {"name": "x", "datatype": "UINT8", "shape": [(1 << 20) + 1]}
    data = message(inputs=[shape], raw_input_contents=[bytes((1 << 20) + 1)])
    assert refused(channel, data).code() is grpc.StatusCode.INVALID_ARGUMENT
    assert rpc.door.requests == []
    shape["shape"] = [1 << 20]
    assert ask(channel, message(inputs=[shape], raw_input_contents=[bytes(1 << 20)]))


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 64, b"EDGD" + bytes(99)])
def test_noise(rpc: Rpc, channel: Any, path: Path, noise: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(WAIT_S)
        sock.connect(str(path))
        sock.sendall(noise)
        while sock.recv(4096):
            pass
    assert ask(channel, b"", "ServerLive") == b"\x08\x01"


class Talk:
    """A stream, said and heard step by step."""

    def __init__(self, channel: Any, **options: Any) -> None:
        self._said: queue.Queue[bytes | None] = queue.Queue()
        method = channel.stream_stream(OIP + "ModelStreamInfer")
        self.heard = method(iter(self._said.get, None), timeout=WAIT_S, **options)

    def say(self, data: bytes | None) -> None:
        self._said.put(data)

    def hear(self) -> dict[str, Any]:
        return decode(STREAM_RESPONSE, next(self.heard))


def test_a_stream(rpc: Rpc, channel: Any) -> None:
    talk = Talk(channel)
    talk.say(message(id="a"))
    assert talk.hear()["infer_response"]["id"] == "a"
    talk.say(b"\xff")
    assert "Unable to parse" in talk.hear()["error_message"]
    talk.say(message(id="b"))
    talk.say(None)
    assert talk.hear()["infer_response"]["id"] == "b"
    assert list(talk.heard) == []
    assert talk.heard.code() is grpc.StatusCode.OK
    eventually(lambda: not rpc.server.calls)


def test_a_stream_that_wants_a_status(rpc: Rpc, channel: Any) -> None:
    talk = Talk(channel, metadata=(("triton_grpc_error", "true"),))
    talk.say(b"\xff")
    with pytest.raises(grpc.RpcError) as caught:
        next(talk.heard)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    talk.say(None)


def test_a_stream_that_is_given_up(rpc: Rpc, channel: Any) -> None:
    rpc.door.is_holding = True
    talk = Talk(channel)
    talk.say(message())
    talk.say(message())
    eventually(lambda: len(rpc.door.held) == 2)
    talk.heard.cancel()
    talk.say(None)
    eventually(lambda: rpc.door.cancelled == 2 and not rpc.server.calls)


def test_a_reader_that_does_not_read_is_given_no_more(
    rpc: Rpc, channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    block, given, flows = np.zeros((1, 1 << 16), np.float32), 0, []

    def endless(request: Any, on_response: Any) -> None:
        nonlocal given
        flow = request.flow
        flows.append(flow)

        def give() -> None:
            nonlocal given
            while flow.has_room and given < 1000:
                given += 1
                on_response(InferResponse("m", 7, 3, {"x": block}), False)

        flow.on_room = give
        give()

    monkeypatch.setattr(rpc.door, "submit", endless)
    talk = Talk(channel)
    talk.say(message())
    eventually(lambda: given > 0 and flows[0].is_held)
    for _ in range(64):
        assert talk.hear()["infer_response"]
    assert given < 200
    talk.heard.cancel()
    talk.say(None)
    eventually(lambda: not rpc.server.calls)


def test_watching_ends_when_the_daemon_stops(tmp_path: Path) -> None:
    made = Rpc().start(tmp_path / "g")
    with grpc.insecure_channel(f"unix:{tmp_path}/g") as channel:
        heard = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=WAIT_S)
        assert next(heard) == b"\x08\x01"
        made.stop()
        with pytest.raises(grpc.RpcError) as caught:
            next(heard)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert made.trouble == []


class TestPlaces:
    @pytest.fixture
    def own(self) -> Iterator[Rpc]:
        made = Rpc()
        yield made
        made.stop()
        assert made.trouble == []

    @staticmethod
    def is_live(address: str) -> bool:
        with grpc.insecure_channel(address) as channel:
            return ask(channel, b"", "ServerLive") == b"\x08\x01"

    def test_a_socket_that_moves(self, own: Rpc, tmp_path: Path) -> None:
        first, second = tmp_path / "a", tmp_path / "b %7e ü?#"
        own.apply(config(GrpcConfig(path=str(first), mode="0600")))
        assert stat.S_IMODE(first.stat().st_mode) == 0o600
        own.apply(config(GrpcConfig(path=str(first), mode="0660")))
        assert stat.S_IMODE(first.stat().st_mode) == 0o660
        assert self.is_live(f"unix:{first}")
        own.apply(config(GrpcConfig(path=str(second))))
        assert second.exists()
        assert not first.exists()
        own.apply(config(None))
        assert not second.exists()
        assert own.server.place is None

    def test_a_port(self, own: Rpc) -> None:
        port = free_port()
        own.apply(config(GrpcConfig(port=port, insecure=True)))
        assert self.is_live(f"127.0.0.1:{port}")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            place = GrpcConfig(port=taken.getsockname()[1], insecure=True)
            with pytest.raises(ApplyError, match="choose another port"):
                own.apply(config(place))
        assert self.is_live(f"127.0.0.1:{port}")

    def test_what_is_no_place_for_a_socket(self, own: Rpc, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        with pytest.raises(ApplyError, match="is not a socket"):
            own.apply(config(GrpcConfig(path=str(tmp_path / "file"))))
        with pytest.raises(ApplyError, match="cannot listen"):
            own.apply(config(GrpcConfig(path=str(tmp_path / "no/g"))))
        with pytest.raises(ApplyError, match="cannot be set"):
            own.apply(config(GrpcConfig(path=str(tmp_path / "g"), group="nobody-has-this")))
        assert not (tmp_path / "g").exists()
        assert (tmp_path / "file").read_text() == "mine"
        assert own.server.place is None

    def test_one_that_is_abandoned(self, own: Rpc, tmp_path: Path) -> None:
        own.apply(config(GrpcConfig(path=str(tmp_path / "a"), mode="0600")))
        moved = own.call(own.server.prepare, config(GrpcConfig(path=str(tmp_path / "b"))))
        own.call(own.server.abandon, moved)
        wider = own.call(
            own.server.prepare, config(GrpcConfig(path=str(tmp_path / "a"), mode="0666"))
        )
        own.call(own.server.abandon, wider)
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
        assert not (tmp_path / "b").exists()
        assert self.is_live(f"unix:{tmp_path}/a")
