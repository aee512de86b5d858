"""The server on a real socket, on either loop, and connections to it that are closed behind a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.house import LOOPS, Connect, House, Peer, houses


@pytest.fixture(params=LOOPS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    yield from houses(request.param, tmp_path / "s")


@pytest.fixture
def peer(house: House) -> Iterator[Connect]:
    """Makes connections, and closes them."""
    peers: list[Peer] = []

    def connect() -> Peer:
        peers.append(Peer(house.path))
        return peers[-1]

    yield connect
    for one in peers:
        one.close()
