"""What a change leaves in the store, and what it takes out of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edged.generation.history import History
from edged.generation.needed import collect_after, needed_of
from tests.fakes.site import Site
from tests.generation.test_reload import ONE, TWO, booted, eventually, run


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.bundle("m", 1)
    made.bundle("m", 2)
    return made.write(ONE)


def test_of_every_generation_and_of_what_serves(site: Site) -> None:
    async def work() -> None:
        async with booted(site) as box:
            one = {item.digest for item in box.reloader.candidate.desired()}
            site.write(TWO)
            assert await box.reloader.reload()
            two = {item.digest for item in box.reloader.candidate.desired()}
            assert one != two
            needed = needed_of(box.house, box.reloader.candidate)
            assert needed.digests == one | two
            assert needed.models == {"m"}
            for entry in History(site.state / "history").entries():
                (site.state / "history" / f"{entry.generation:08d}" / "entry.json").unlink()
            await eventually(lambda: needed_of(box.house, box.reloader.candidate).digests == two)

    run(work())


def test_what_nothing_needs_leaves_with_the_rest_of_an_install(site: Site) -> None:
    async def work() -> None:
        async with booted(site) as box:
            left = site.directory / ".install-x"
            left.write_bytes(b"")
            os.utime(left, (time.time() - 7200,) * 2)
            stray = site.state / "store" / ("0" * 64)
            stray.mkdir()
            collect_after(box.house, box.reloader.snapshot)
            assert not left.exists()
            assert not stray.exists()
            assert box.reloader.candidate.desired()[0].stored.is_whole()

    run(work())
