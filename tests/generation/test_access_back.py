"""What comes back allows what it did in its time; that is said, wherever it is more than the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.load import Snapshot
from edged.generation.access_back import rights_again
from edged.generation.history import Order
from tests.fakes.site import Site
from tests.generation.test_reload import ONE, TWO, booted, eventually, run
from tests.generation.test_returns import FAST, SLOW, confirmed, fail, history

OPEN = "access: {rules: [{users: ['*'], allow: [infer, metadata]}]}\n"
CLOSED = "access: {rules: [{groups: [root], models: [m], allow: [infer]}]}\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.bundle("m", 1)
    site.bundle("m", 2)
    return site


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", CLOSED, "whoever may connect may ask for every model again"),
        (OPEN, CLOSED, "these access.rules count again: users *: infer, metadata"),
        (CLOSED, "access: {rules: []}\n", "count again: groups root: infer of m"),
        ("access: {rules: [{tcp: true, allow: [status]}]}\n", CLOSED, "tcp: status"),
        (OPEN, "", None),
        (OPEN, OPEN, None),
        ("access: {rules: []}\n", OPEN, None),
    ],
)
def test_what_is_said(site: Site, old: str, new: str, said: str | None) -> None:
    def made(words: str) -> Snapshot:
        return site.write(ONE + words).load()

    found = rights_again(made(old), made(new))
    assert (said in found) if said else found == ""


def test_by_itself_and_over_restarts_until_the_files_count_again(site: Site) -> None:
    async def work() -> None:
        site.write(FAST + ONE + OPEN)
        async with booted(site) as box:
            await eventually(lambda: confirmed(site, 1))
            site.write(SLOW + TWO + CLOSED)
            assert await box.reloader.reload()
            assert "access" not in box.degraded
            fail(box)
            await eventually(lambda: box.generation == 3 and "config" in box.degraded)
            assert box.degraded["access"].endswith("again: users *: infer, metadata")
        async with booted(site) as box:
            assert "came back, with the rights it gives" in box.degraded["access"]
            site.write(FAST + ONE + CLOSED)
            assert await box.reloader.reload()
            assert "access" not in box.degraded

    run(work())


def test_by_order_the_answer_says_it_too(site: Site) -> None:
    async def work() -> None:
        site.write(FAST + ONE + OPEN)
        async with booted(site) as box:
            await eventually(lambda: confirmed(site, 1))
            site.write(FAST + TWO + CLOSED)
            assert await box.reloader.reload()
            history(site).order(Order(1))
            assert not await box.reloader.reload()
            assert box.reloader.went_back is not None
            assert "these access.rules count again" in box.reloader.went_back["trust"]
            assert "access" in box.degraded

    run(work())
