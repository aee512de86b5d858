"""Who is let in, the same for every server of clients: without a protocol, over real sockets."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from edged.access.gate import Access, Gate
from edged.access.policy import Policy
from edged.access.quotas import Quota, build_quota
from edged.config.access import QuotaConfig
from edged.config.schema import Config
from edged.errors import QueueFullError, QuotaError
from edged.transports.server import Guest, Server


class Connection:
    """One that only ends."""

    def __init__(self, server: House) -> None:
        self.server = server
        self.ended = 0

    def end(self) -> None:
        self.ended += 1
        if self.ended == 2:
            self.server.connections.discard(self)


class House(Server[Connection]):
    """A server without a listener."""

    def __init__(self, gate: Gate | None = None) -> None:
        super().__init__("carrier", "native", gate, logging.getLogger("edged.test"))
        self.closed_listeners = 0

    def close_listener(self) -> None:
        self.closed_listeners += 1

    def let_in(self, sock: Any, **info: Any) -> Guest:
        known = {"socket": sock, **info}
        transport: Any = SimpleNamespace(
            get_extra_info=known.get, set_write_buffer_limits=lambda high: known.update(high=high)
        )
        guest = self.admit(Connection(self), transport, lambda: None)
        assert known["high"] == 0, "an answer leaves at once"
        return guest


@pytest.fixture
def unix():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


@pytest.fixture
def tcp():
    with socket.socket() as sock:
        yield sock


def bounded() -> Quota:
    return build_quota(QuotaConfig(users=("*",), connections=1), "access.quotas[0]", frozenset())


def test_who_it_is(unix: socket.socket, tcp: socket.socket):
    house, uid = House(), os.getuid()
    guest = house.let_in(unix)
    assert guest[1:] == (f"carrier:{uid}", uid, unix.fileno())
    assert (guest.visit.peer.door, guest.visit.peer.uid) == ("native", uid)
    guest = house.let_in(tcp)
    assert guest[1:] == ("carrier", None, tcp.fileno())
    shown = {"subject": ((("commonName", "ops"),),)}
    guest = house.let_in(tcp, peercert=shown)
    assert guest[1:] == ("carrier:ops", None, -1), "encrypted: not read beside the loop"
    assert guest.visit.peer.certificate == "ops"
    assert (house.accepted, house.refused, len(house.connections)) == (3, 0, 3)


def test_too_many(unix: socket.socket):
    house = House()
    house.configure(Config())
    house.max_connections = 1
    house.let_in(unix)
    with pytest.raises(QueueFullError, match=r"1 connections are open.*listen\.max_connections"):
        house.let_in(unix)
    assert (house.accepted, house.refused, len(house.connections)) == (1, 1, 1)


def test_one_client_has_as_many_as_it_may(unix: socket.socket):
    house = House(Gate(Access(Policy(), (bounded(),))))
    guest = house.let_in(unix)
    with pytest.raises(QuotaError, match=r"access\.quotas\[0\]\.connections"):
        house.let_in(unix)
    assert (house.accepted, house.refused, len(house.connections)) == (1, 1, 1)
    guest.visit.leave()
    house.let_in(unix)


def test_closing_waits_for_what_is_under_way(unix: socket.socket):
    house = House()
    house.let_in(unix)
    house.close()
    assert house.closed_listeners == 1
    (connection,) = house.connections
    asyncio.run(house.closed(0))
    assert house.connections, "no longer than it may"
    connection.end()
    asyncio.run(house.closed(60))
    assert not house.connections
