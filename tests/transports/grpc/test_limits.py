"""The server's limits follow the configuration; who may connect is the listener's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.specs import Duration, Size
from tests.fakes.house import LOOPS, eventually
from tests.fakes.http2_house import Caller, House, framed


@pytest.fixture(params=LOOPS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "g", LOOPS[request.param])
    yield made
    made.stop()
    assert made.trouble == []


def test_limits_follow_the_configuration(house: House) -> None:
    house.start()
    house.start(
        max_connections=7, max_request=Size(1024), max_unread=Size(1 << 20),
        frame_timeout=Duration(3_000_000_000), stream_wait=Duration(5_000_000_000),
    )  # fmt: skip
    server = house.server
    assert (server.max_connections, server.max_message_bytes) == (7, 1024 + (1 << 20))
    assert (server.frame_timeout_s, server.unread_wait_s) == (3, 5)
    assert server.max_unread_bytes == 1 << 20
    assert house.service.configured == ("edged", 1024, 5)


def test_traffic_is_counted_and_a_closed_listener_leaves_connections(house: House) -> None:
    house.start()
    caller = Caller(house.path)
    assert caller.answer(caller.ask("/t/echo", b"x"))[0] == framed(b"x")
    house.call(house.server.close_listener)
    assert house.server.place is None
    assert house.server.calls == 0
    assert caller.answer(caller.ask("/t/echo", b"y"))[0] == framed(b"y")
    caller.close()
    eventually(lambda: not house.server.connections)
    server = house.server
    assert (server.accepted, server.refused) == (1, 0)
    assert server.received_bytes > 100
    assert server.sent_bytes > 100


def test_closed_waits_for_what_was_written(house: House) -> None:
    house.start()
    caller = Caller(house.path)
    assert caller.answer(caller.ask("/t/echo", b"x"))[0] == framed(b"x")
    house.call(house.server.close)
    house.run(house.server.closed(5))
    assert not house.server.connections
    caller.close()
