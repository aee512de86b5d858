"""What bindings remember over the life of the process."""

from __future__ import annotations

import asyncio
from pathlib import Path

from edged.broker.keeping import FOLDER, Keeping
from edged.config.binding import BindingConfig
from edged.config.keyed import WindowConfig
from edged.telemetry.health import Health

KEPT = BindingConfig(name="b", from_="in/+", model="m", window=WindowConfig(rows=4))
PLAIN = BindingConfig(name="p", from_="in/+", model="m")


class Text:
    """Every text is ours."""

    def fits(self, state: str) -> bool:
        return True

    def unpack(self, data: bytes) -> str | None:
        return data.decode()


def put(keeping: Keeping, state: str) -> None:
    shelf = keeping.states.shelf("b", max_keys=9, max_bytes=0, is_kept=True)
    shelf.put("k", state, 1, state.encode(), None)


def got(keeping: Keeping) -> str | None:
    shelf = keeping.states.shelf("b", max_keys=9, max_bytes=0, is_kept=True)
    return shelf.get("k", Text())


def test_nothing_is_opened_where_nothing_is_kept(tmp_path: Path) -> None:
    async def work() -> None:
        keeping = Keeping(tmp_path, Health())
        assert await keeping.follow([PLAIN])
        assert await keeping.follow([])
        await keeping.close()

    asyncio.run(work())
    assert not (tmp_path / FOLDER).exists()


def test_kept_over_a_restart_and_forgotten_with_the_binding(tmp_path: Path) -> None:
    async def work(*bindings: BindingConfig, state: str = "") -> str | None:
        keeping = Keeping(tmp_path, Health())
        assert await keeping.follow(bindings)
        found = got(keeping)
        if state:
            put(keeping, state)
        await keeping.close()
        return found

    assert asyncio.run(work(KEPT, state="1")) is None
    assert asyncio.run(work(KEPT, PLAIN)) == "1"
    asyncio.run(work(PLAIN))
    assert asyncio.run(work(KEPT)) is None


def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("")
    health = Health()

    async def work() -> None:
        keeping = Keeping(tmp_path, health)
        assert not await keeping.follow([KEPT])
        assert "cannot be read" in str(health.degradations())
        await keeping.close()  # as of a line that is gone: its health is nobody's
        assert health.degradations() == {}

    asyncio.run(work())
