"""What tests of sources share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sources.server import Server, web_server


@pytest.fixture
def server() -> Iterator[Server]:
    with web_server() as running:
        yield running
