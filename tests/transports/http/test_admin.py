"""What administrators ask over HTTP: each right is asked for, and nothing changes elsewhere."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.admin import AdminHouse, administered, allowed
from tests.fakes.house import LOOPS, eventually
from tests.fakes.web import Visitor


@pytest.fixture(params=LOOPS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AdminHouse]:
    yield from administered(request.param, tmp_path / "a")


@pytest.fixture
def visitor(house: AdminHouse) -> Iterator[Visitor]:
    made = Visitor(house.path)
    yield made
    made.close()


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
