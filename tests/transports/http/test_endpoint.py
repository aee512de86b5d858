"""The server's limits follow the configuration; who may connect is the listener's."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.config.listen import HttpConfig
from edged.specs import Duration, Size
from tests.compat.stand import free_port
from tests.fakes.house import LOOPS, eventually
from tests.fakes.web import INFER, Visitor, Web


@pytest.fixture(params=LOOPS)
def web(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Web]:
    made = Web(tmp_path / "h", LOOPS[request.param])
    yield made
    made.stop()
    assert made.trouble == []


def test_limits_hold_for_connections_made_from_now_on(web: Web) -> None:
    web.start(max_request=Size(1 << 20))
    old = Visitor(web.path)
    assert old.ask("GET", "/v2")[0] == 200
    web.start(
        max_connections=7, max_request=Size(1024),
        frame_timeout=Duration(3_000_000_000), stream_wait=Duration(5_000_000_000),
    )  # fmt: skip
    server = web.server
    assert (server.max_connections, server.max_request_bytes) == (7, 1024)
    assert (server.frame_timeout_s, server.unread_wait_s) == (3, 5)
    large = INFER + b" " * 2000
    assert old.ask("POST", "/v2/models/m/infer", large)[0] == 200
    new = Visitor(web.path)
    assert new.ask("POST", "/v2/models/m/infer", large)[0] == 413
    old.close()
    new.close()


def test_traffic_is_counted(web: Web) -> None:
    web.start()
    visitor = Visitor(web.path)
    assert visitor.ask("GET", "/v2")[0] == 200
    visitor.close()
    server = web.server
    assert (server.accepted, server.requests, server.refused) == (1, 1, 0)
    assert server.received_bytes > 20
    assert server.sent_bytes > 20
    eventually(lambda: not server.connections)


def test_closing_the_listener_leaves_connections(web: Web) -> None:
    web.start()
    visitor = Visitor(web.path)
    assert visitor.ask("GET", "/v2")[0] == 200
    web.call(web.server.close_listener)
    assert web.server.place is None
    assert visitor.ask("GET", "/v2")[0] == 200
    visitor.close()


def test_a_name_that_was_pointed_at_a_port_of_this_machine(web: Web) -> None:
    """A browser that was led here by DNS; where only trusted programs are, any name will do."""
    port = free_port()

    def ask(host: str) -> int:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        client.request("GET", "/v2", headers={"Host": host})
        status = client.getresponse().status
        client.close()
        return status

    web.start(http=HttpConfig(port=port, insecure=True))
    assert ask(f"localhost:{port}") == ask(f"127.0.0.1:{port}") == 200
    assert ask(f"evil.example:{port}") == 403
    assert web.server.requests == 3
    web.start(http=HttpConfig(port=port, insecure=True, trusted_network=True))
    assert ask("models.default.svc") == 200
