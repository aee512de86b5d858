"""The administrators' socket speaks the native protocol and HTTP, told apart by the first bytes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edged.messages import InferRequest
from edged.protocol import native
from edged.protocol.frames import Kind
from tests.fakes.admin import AdminHouse, administered, allowed
from tests.fakes.descriptors import descriptors
from tests.fakes.house import LOOPS, Peer, eventually
from tests.fakes.web import INFER, Visitor, raw
from tests.fakes.wire import joined

LAST = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture(params=LOOPS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AdminHouse]:
    yield from administered(request.param, tmp_path / "a")


@pytest.fixture
def visitor(house: AdminHouse) -> Iterator[Visitor]:
    made = Visitor(house.path)
    yield made
    made.close()


class TestWhoSpeaksWhat:
    def test_http(self, house: AdminHouse, visitor: Visitor) -> None:
        for _ in range(3):
            assert visitor.ask("POST", "/v2/models/m/infer", INFER)[0] == 200
        assert (house.http.accepted, house.http.requests) == (1, 3)
        assert not house.server.connections, "it is a connection of the other's now"
        assert house.door.requests[0].origin.startswith("http:")

    def test_native(self, house: AdminHouse) -> None:
        peer = Peer(house.path)
        for number in range(1, 200):
            peer.send(native.encode_infer(number, InferRequest("m", {})))
        assert {peer.frame().request_id for _ in range(1, 200)} == set(range(1, 200))
        assert house.http.accepted == 0
        peer.close()

    @pytest.mark.parametrize("step", [1, 3, 5])
    def test_in_small_pieces(self, house: AdminHouse, step: int) -> None:
        frame = joined(native.encode_infer(7, InferRequest("m", {})))
        peer = Peer(house.path)
        for at in range(0, len(frame), step):
            peer.send(frame[at : at + step])
        assert peer.frame().kind == Kind.RESULT
        peer.close()
        pieces = [LAST[at : at + step] for at in range(0, len(LAST), step)]
        assert raw(house.path, *pieces).startswith(b"HTTP/1.1 200")

    @pytest.mark.hostile("A2 a length field of 2^32-1 or 2^63")
    @pytest.mark.parametrize("data", [b"EDGX", b"\x00" * 64, b"EDGD" + b"\xff" * 60, b"E", b"ED\n"])
    def test_neither(self, house: AdminHouse, data: bytes) -> None:
        before = descriptors()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(house.path))
            sock.settimeout(10)
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        eventually(lambda: not house.server.connections and not house.http.connections)
        eventually(lambda: descriptors() <= before)

    def test_too_many(self, house: AdminHouse) -> None:
        house.http.max_connections = 1
        first = Visitor(house.path)
        assert first.ask("GET", "/v2")[0] == 200
        assert raw(house.path, LAST).startswith(b"HTTP/1.1 503")
        first.close()


def test_calls_are_of_a_model(house: AdminHouse) -> None:
    async def load(arguments: dict[str, Any]) -> Any:
        return arguments

    house.server.calls["load"] = load
    house.call(house.server.gate.follow, allowed("load", models=("cam-*",)))
    peer = Peer(house.path)
    peer.send(native.encode_call(1, "load", {"model": "cam-1"}))
    assert native.decode_reply(peer.frame()) == {"model": "cam-1"}
    for arguments in ({"model": "m"}, {}):
        peer.send(native.encode_call(2, "load", arguments))
        assert peer.frame().kind == Kind.ERROR
    peer.close()
    assert json.dumps(house.server.gate.refusals["rule"]) == "2"
