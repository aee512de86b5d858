"""The administrators' socket speaks the native protocol and HTTP, told apart by the first bytes."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edged.access.gate import Access
from edged.access.policy import Policy, build_rule
from edged.config.access import RuleConfig
from edged.config.listen import AdminConfig, ListenConfig
from edged.config.schema import Config
from edged.errors import LoadError, ModelNotFoundError
from edged.messages import InferRequest
from edged.protocol import native
from edged.protocol.frames import Kind
from edged.transports.http import HttpServer
from edged.transports.uds import UnixServer
from tests.fakes.descriptors import descriptors
from tests.fakes.house import LOOPS, House, Peer, eventually
from tests.fakes.web import INFER, Pages, Visitor, raw
from tests.fakes.wire import joined

LAST = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Admin:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.level = "info"
        self.told: list[str] = []
        self.gate: asyncio.Event | None = None
        self.ended = 0

    def set_level(self, level: str) -> None:
        self.level = level

    def check(self, model: str) -> None:
        if model == "nope":
            raise ModelNotFoundError('no model "nope"')

    async def load(self, model: str) -> None:
        self.check(model)
        if model == "bad":
            raise LoadError("failed to load bad")
        if model == "odd":
            raise ZeroDivisionError
        if model == "slow":
            try:
                self.gate = asyncio.Event()
                await self.gate.wait()
            finally:
                self.ended += 1
        self.told.append(f"load {model}")

    async def unload(self, model: str) -> None:
        self.told.append(f"unload {model}")


class AdminHouse(House):
    """With a second socket, where administrators ask."""

    def __init__(self, path: Path, new_loop: Any) -> None:
        super().__init__(path, new_loop)
        self.admin = Admin()
        gate = self.server.gate
        self.server = UnixServer(self.door, {"status": self.status}, gate, "admin")
        self.http = HttpServer(self.door, Pages(), gate, self.admin)
        self.server.other = self.http.hear

    def config(self, **limits: Any) -> Config:
        made = super().config(**limits)
        admin = AdminConfig(path=str(self.path))
        return Config(listen=ListenConfig(admin=admin), limits=made.limits)

    def stop(self) -> None:
        self.call(self.http.close)
        eventually(lambda: not self.http.connections)
        super().stop()


@pytest.fixture(params=LOOPS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AdminHouse]:
    made = AdminHouse(tmp_path / "a", LOOPS[request.param])
    made.start()
    # Without a rule that says so, even who runs this may do nothing.
    made.call(made.server.gate.follow, allowed("load", "unload", "logging", "trace", "infer"))
    yield made
    made.stop()
    assert made.trouble == []


def allowed(*verbs: str, models: tuple[str, ...] = ("*",)) -> Access:
    rule = RuleConfig(users=("*",), models=models, allow=verbs)  # type: ignore[arg-type]
    return Access(Policy((build_rule(rule, "rules[0]", int, int),), has_admin_door=True))


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

    @pytest.mark.hostile("A1 bytes that are no frame")
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


class TestVerbs:
    def test_loads(self, house: AdminHouse, visitor: Visitor) -> None:
        path = "/v2/repository/models/"
        assert visitor.ask("POST", f"{path}m%201/load")[0] == 200
        body = b'{"parameters":{"unload_dependents":false}}'
        assert visitor.ask("POST", f"{path}m/unload", body)[0] == 200
        assert house.admin.told == ["load m 1", "unload m"]
        assert visitor.ask("POST", f"{path}nope/load") == (
            404, {"error": 'Request for unknown model: no model "nope"'}
        )  # fmt: skip
        assert visitor.ask("POST", f"{path}bad/load") == (500, {"error": "failed to load bad"})
        assert visitor.ask("POST", f"{path}odd/load")[0] == 500
        for body in (b'{"parameters":{"config":"{}"}}', b"[", b'{"parameters":3}'):
            assert visitor.ask("POST", f"{path}m/load", body)[0] == 400
        assert visitor.ask("GET", f"{path}m/load")[0] == 405
        assert len(house.admin.told) == 2

    def test_settings(self, house: AdminHouse, visitor: Visitor) -> None:
        status, document = visitor.ask("GET", "/v2/logging")
        assert (status, document["log_verbose_level"]) == (200, 0)
        status, document = visitor.ask("POST", "/v2/logging", b'{"log_verbose_level":1}')
        assert (status, document["log_verbose_level"], house.admin.level) == (200, 1, "debug")
        assert visitor.ask("POST", "/v2/logging", b'{"log_file":"/tmp/x"}')[0] == 400
        for path in ("/v2/trace/setting", "/v2/models/m/trace/setting"):
            assert visitor.ask("GET", path)[1]["trace_level"] == ["OFF"]
            assert visitor.ask("POST", path, b'{"trace_level":["OFF"]}')[0] == 200
            assert visitor.ask("POST", path, b'{"trace_level":["TIMESTAMPS"]}')[0] == 400
        assert visitor.ask("GET", "/v2/models/nope/trace/setting")[0] == 404
        assert "logging" in visitor.ask("GET", "/v2")[1]["extensions"]

    @pytest.mark.hostile("B12 load and unload through the inference socket")
    def test_each_right_is_asked_for(self, house: AdminHouse, visitor: Visitor) -> None:
        asks = {
            "load": ("POST", "/v2/repository/models/m/load"),
            "unload": ("POST", "/v2/repository/models/m/unload"),
            "logging": ("POST", "/v2/logging"),
            "trace": ("POST", "/v2/trace/setting"),
        }
        for given in asks:
            house.call(house.server.gate.follow, allowed(given))
            for verb, (method, path) in asks.items():
                wanted = 200 if verb == given else 403
                assert visitor.ask(method, path, b"{}")[0] == wanted, (given, verb)
        house.call(house.server.gate.follow, allowed("load", models=("cam-*",)))
        assert visitor.ask("POST", "/v2/repository/models/m/load")[0] == 403
        assert visitor.ask("POST", "/v2/repository/models/cam-1/load")[0] == 200
        # Who has the right elsewhere has none of it there.
        house.http.admin = None
        other = Visitor(house.path)
        house.call(house.server.gate.follow, allowed(*asks))
        for method, path in asks.values():
            assert other.ask(method, path, b"{}")[0] == 403
        other.close()

    def test_who_goes_away_waits_no_more(self, house: AdminHouse) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(house.path))
            sock.sendall(b"POST /v2/repository/models/slow/load HTTP/1.1\r\nHost: a\r\n\r\n")
            eventually(lambda: house.admin.gate is not None)
        eventually(lambda: house.admin.ended == 1)
        assert house.admin.told == []


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
