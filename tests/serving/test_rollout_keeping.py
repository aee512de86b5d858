"""When what is known of rollouts is written, and what a disk that refuses comes to."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edged.rollout.judge import Phase
from edged.rollout.ledger import Entry, Ledger
from edged.serving.rollout_keeping import Keeping
from edged.system.atomic import write_atomically
from edged.telemetry.health import Health
from tests.fakes.clock import on_loop, turns

SECOND = 10**9


class Disk:
    """Counts what it takes; refuses while it is full."""

    def __init__(self) -> None:
        self.count, self.is_full = 0, False

    def write(self, path: Path, data: bytes) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.count += 1
        write_atomically(path, data)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def keeping(tmp_path: Path, disk: Disk, health: Health) -> Keeping:
    return Keeping(Ledger(tmp_path / "rollouts", disk.write), health)


@on_loop
async def test_figures_now_and_then_and_only_those_that_changed(
    tmp_path: Path, disk: Disk, keeping: Keeping
) -> None:
    entry = Entry("a", 1, 2)
    keeping.now("m", entry)
    disk.count = 0
    for at_s, answers, written in ((1, 1, 1), (5, 2, 1), (12, 2, 2), (30, 2, 2), (31, 3, 3)):
        while entry.tally.side(2).answers < answers:
            entry.tally.side(2).note(None, 1000)
        keeping.look("m", entry.tally, at_s * SECOND)
        await keeping.done()
        assert disk.count == written, at_s
    again = Ledger(tmp_path / "rollouts", disk.write)
    again.read()
    assert again.entry("m", "a") == entry


@on_loop
async def test_what_a_thread_comes_to_late_is_not_written_over_what_came_after(
    tmp_path: Path, disk: Disk, keeping: Keeping
) -> None:
    """The daemon stops while its threads are busy, with an end that was decided just now."""
    entry, is_free = Entry("a", 1, 2), threading.Event()
    with ThreadPoolExecutor(1) as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        threads.submit(is_free.wait, 30)
        keeping.soon("m", entry)
        await turns(3)
        entry.move(Phase.ROLLED_BACK, "slow", 9.0)
        keeping.now("m", entry)
        is_free.set()
        await keeping.done()
    again = Ledger(tmp_path / "rollouts", disk.write)
    again.read()
    assert again.entry("m", "a") == entry
    assert disk.count == 1


@on_loop
async def test_a_disk_that_refuses_is_told_until_it_takes_something(
    disk: Disk, health: Health, keeping: Keeping
) -> None:
    entry, disk.is_full = Entry("a", 1, 2), True
    keeping.now("m", entry)
    assert "No space left" in health.degradations()["rollouts"]
    keeping.soon("m", entry)
    await keeping.done()
    assert "rollouts" in health.degradations()
    disk.is_full = False
    keeping.soon("m", entry)
    await keeping.done()
    assert not health.degradations()
    assert disk.count == 1
