"""Opening and closing the way of results; the daemon as a process is in tests/e2e/test_results.py."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edged.broker.results import FOLDER, left_on_disk, open_results
from edged.config.broker import OutboxConfig
from edged.errors import ApplyError
from edged.outbox.age import now
from edged.outbox.entry import Entry
from edged.transports.mqtt.connection import SessionOptions

OPTIONS = SessionOptions("edged-n-results", "edged/n", port=1)


def nothing() -> None:
    pass


def test_it_is_opened_closed_and_opened_again(tmp_path: Path) -> None:
    async def work() -> None:
        results = await open_results(tmp_path, OPTIONS, OutboxConfig(), nothing)
        assert not left_on_disk(tmp_path)
        kept = asyncio.Event()
        outbox = results.forwarder._outbox
        outbox.put(Entry(b"k", b"d", now()), lambda _: kept.set())
        await asyncio.wait_for(kept.wait(), 30)
        results.forwarder.start()
        await results.close()
        assert left_on_disk(tmp_path)
        again = await open_results(tmp_path, OPTIONS, OutboxConfig(), nothing)
        assert again.forwarder.stats()["outbox"]["entries"] == 1
        await again.close()

    asyncio.run(asyncio.wait_for(work(), 60))


def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("")

    async def work() -> None:
        with pytest.raises(ApplyError, match="the outbox cannot be opened"):
            await open_results(tmp_path, OPTIONS, OutboxConfig(), nothing)

    asyncio.run(asyncio.wait_for(work(), 60))
    assert not left_on_disk(tmp_path)
