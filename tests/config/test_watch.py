"""The watcher on a real directory and a real loop; waits are bounded, never fixed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edged.config import watch as watching
from edged.config.load import ConfigProblemsError, load
from edged.config.watch import Watcher

MS = 1_000_000
FOREVER_NS = 3600 * 10**9


class Seen:
    """What a daemon would have read at each call."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.nodes: list[str | None] = []
        self.times: list[float] = []

    def __call__(self) -> None:
        self.times.append(time.monotonic())
        try:
            self.nodes.append(load(self.root).config.node)
        except ConfigProblemsError as exc:
            self.nodes.append(f"refused: {exc.problems[0].message}")

    async def wait_for(self, node: str, seconds: float = 8.0) -> None:
        deadline = time.monotonic() + seconds
        while not self.nodes or self.nodes[-1] != node:
            assert time.monotonic() < deadline, f"waited for {node}; saw {self.nodes[-20:]}"
            await asyncio.sleep(0.005)


@contextmanager
def watched(root: Path, *, poll_ns: int = FOREVER_NS, settle_ns: int = 30 * MS) -> Iterator[Seen]:
    seen = Seen(root)
    watcher = Watcher(root, settle_ns=settle_ns, poll_ns=poll_ns, on_change=seen)
    watcher.start(asyncio.get_running_loop())
    seen.watcher = watcher  # type: ignore[attr-defined]
    try:
        yield seen
    finally:
        watcher.stop()


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 60))  # type: ignore[arg-type]


def by_vim(path: Path, text: str) -> None:
    backup = path.with_name(path.name + "~")
    (path.parent / "4913").touch()
    (path.parent / "4913").unlink()
    path.rename(backup)
    path.write_text(text)
    backup.unlink()


def by_sed(path: Path, text: str) -> None:
    new = text.strip().partition(" ")[2]
    subprocess.run(["sed", "-i", f"s/node: .*/node: {new}/", str(path)], check=True)


def by_rename(path: Path, text: str) -> None:
    fresh = path.with_name(".fresh")
    fresh.write_text(text)
    fresh.replace(path)


def in_place(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.mark.parametrize("save", [by_vim, by_sed, by_rename, in_place])
def test_ways_of_saving(site, save) -> None:
    main = site.write("node: a\n")

    async def scene() -> None:
        with watched(site.root) as seen:
            for node in ("b", "c"):
                save(main, f"node: {node}\n")
                await seen.wait_for(node)
            assert not any("refused" in str(node) for node in seen.nodes)

    play(scene)


@pytest.mark.hostile("F8 an editor that truncates and then writes in pieces")
def test_truncate_then_three_pieces_over_2_s(site) -> None:
    """ "editor truncates, then writes in 3 pieces over 2 s → no partial config is ever applied." """
    main = site.write("node: a\n")

    async def scene() -> None:
        with watched(site.root, poll_ns=200 * MS) as seen:
            with main.open("w") as file:
                for piece in ("node: b\n", "log: {level: info}\n", "runtime: {threads: 1}\n"):
                    await asyncio.sleep(0.66)
                    file.write(piece)
                    file.flush()
                    assert seen.watcher.is_writing()
            await seen.wait_for("b")
            assert seen.nodes == ["b"]
            assert not seen.watcher.is_writing()

    play(scene)


def test_every_change_is_counted_as_soon_as_it_is_there(site) -> None:
    """By which a load that failed knows that its file was written meanwhile."""
    main = site.write("node: a\n")

    async def scene() -> None:
        with watched(site.root) as seen:
            first = seen.watcher.changes()
            with main.open("w") as file:
                truncated = seen.watcher.changes()
                file.write("node: b\n")
            closed = seen.watcher.changes()
            assert first < truncated < closed == seen.watcher.changes()
            await seen.wait_for("b")

    play(scene)


def test_without_the_open_gate_a_part_is_read(site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: treat a write as complete, and half a file is applied."""
    monkeypatch.setattr(
        watching.Settler, "writing", lambda self, now_ns, file: self.changed(now_ns, file)
    )
    main = site.write("node: a\n")

    async def scene() -> None:
        with watched(site.root) as seen:
            with main.open("w") as file:
                file.write("log: {level: info}\n")
                file.flush()
                await asyncio.sleep(0.5)
                file.write("node: b\n")
            await seen.wait_for("b")
            assert seen.nodes[0] is None

    play(scene)


def test_kubernetes_link_swap(site) -> None:
    for number, node in ((1, "a"), (2, "b"), (3, "c")):
        (site.root / f"..{number}").mkdir()
        (site.root / f"..{number}" / "edged.yaml").write_text(f"node: {node}\n")
    (site.root / "..data").symlink_to("..1")
    (site.root / "edged.yaml").symlink_to("..data/edged.yaml")

    async def scene() -> None:
        with watched(site.root) as seen:
            for number, node in ((2, "b"), (3, "c")):
                (site.root / "..tmp").symlink_to(f"..{number}")
                (site.root / "..tmp").rename(site.root / "..data")
                await seen.wait_for(node)
                shutil.rmtree(site.root / f"..{number - 1}")
            # the target itself, behind two links, written in place
            (site.root / "..3" / "edged.yaml").write_text("node: d\n")
            await seen.wait_for("d")
            # the link appears before what it points to
            (site.root / "..tmp").symlink_to("..4")
            (site.root / "..tmp").rename(site.root / "..data")
            await asyncio.sleep(0.1)
            (site.root / "..4").mkdir()
            (site.root / "..4" / "edged.yaml").write_text("node: e\n")
            await seen.wait_for("e")

    play(scene)


def test_new_conf_d_and_files_in_it(site) -> None:
    site.write("log: {level: info}\n")

    async def scene() -> None:
        with watched(site.root) as seen:
            site.write("node: b\n", "conf.d/a.yaml")
            await seen.wait_for("b")
            site.write("node: c\n", "conf.d/a.yaml")
            await seen.wait_for("c")
            shutil.rmtree(site.root / "conf.d")
            site.write("node: d\n", "conf.d/z.yaml")
            await seen.wait_for("d")
            (site.root / "conf.d/z.yaml").unlink()
            site.write("node: e\n")
            await seen.wait_for("e")

    play(scene)


def test_directory_deleted_and_made_again(site) -> None:
    site.write("node: a\n")
    gone = "cannot be read: No such file or directory; "
    gone += f"there is no folder {site.root} either"

    async def scene() -> None:
        with watched(site.root) as seen:
            shutil.rmtree(site.root)
            await seen.wait_for(f"refused: {gone}")
            site.root.mkdir(mode=0o755)
            site.write("node: b\n")
            await seen.wait_for("b")
            site.root.rename(site.root.with_name("old"))
            site.root.mkdir(mode=0o755)
            site.write("node: c\n")
            await seen.wait_for("c")
            (site.root.with_name("old") / "edged.yaml").write_text("node: x\n")
            site.write("node: d\n")
            await seen.wait_for("d")

    play(scene)


@pytest.mark.hostile("F10 a thousand changes in ten seconds")
def test_1000_saves_are_coalesced_and_the_last_wins(site) -> None:
    """ "1,000 changes in 10 s → coalesced, serving p99 < 2x, last one wins." """
    main = site.write("node: a\n")

    async def scene() -> None:
        with watched(site.root) as seen:
            for number in range(1000):
                by_rename(main, f"node: n{number}\n")
                if number % 10 == 0:
                    await asyncio.sleep(0)
            await seen.wait_for("n999")
            assert len(seen.nodes) <= 20

    play(scene)


def test_saves_every_20_ms_are_applied_each_second(site) -> None:
    main = site.write("node: a\n")

    async def scene() -> None:
        with watched(site.root, settle_ns=100 * MS) as seen:
            started = time.monotonic()
            number = 0
            while time.monotonic() < started + 3.5:
                number += 1
                in_place(main, f"node: n{number}\n")
                await asyncio.sleep(0.02)
            await seen.wait_for(f"n{number}")
            gaps = [b - a for a, b in zip([started, *seen.times], seen.times, strict=False)]
            # One second, and a busy machine's delay; without the rule it were all the 3.5.
            assert max(gaps) < 3.2, gaps
            assert not any("refused" in str(node) for node in seen.nodes)

    play(scene)


def test_poll_notices_without_inotify(site, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    def fail(**_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(watching, "INotify", fail)
    main = site.write("node: a\n")

    async def scene() -> None:
        with watched(site.root, poll_ns=50 * MS) as seen:
            info = main.stat()
            with main.open("r+") as file:
                file.write("node: b\n")
            os.utime(main, ns=(info.st_atime_ns, info.st_mtime_ns))
            await seen.wait_for("b")
            assert seen.nodes == ["b"]

    play(scene)
    assert "no inotify" in caplog.text


def test_poll_alone_sees_what_inotify_does_not(site) -> None:
    """A second name of the file (hard link) is written: its own directory says nothing."""
    main = site.write("node: a\n")
    other = site.root.with_name("other.yaml")
    os.link(main, other)

    async def scene() -> None:
        with watched(site.root, poll_ns=50 * MS) as seen:
            other.write_text("node: b\n")
            await seen.wait_for("b")

    play(scene)


def test_a_change_between_construction_and_start_is_noticed(site) -> None:
    main = site.write("node: a\n")

    async def scene() -> None:
        seen = Seen(site.root)
        watcher = Watcher(site.root, settle_ns=MS, poll_ns=FOREVER_NS, on_change=seen)
        by_rename(main, "node: b\n")
        watcher.start(asyncio.get_running_loop())
        await seen.wait_for("b")
        watcher.stop()

    play(scene)


def test_a_change_and_back_while_somebody_reads_calls_back(site) -> None:
    """A reload of its own accord read what stood there in between, and refused it."""
    file = site.write("node: a")

    async def scene() -> None:
        with watched(site.root) as seen:
            seen.watcher.doubt()
            by_rename(file, "nodde: b")
            by_rename(file, "node: a\n" if file.read_text() == "node: a\n" else "node: a")
            await seen.wait_for("a")
            assert len(seen.nodes) == 1

    play(scene)


def test_other_files_and_touches_are_quiet(site) -> None:
    main = site.write("node: a\n")

    async def scene() -> None:
        with watched(site.root) as seen:
            site.write("junk", "notes.txt")
            site.write("junk", ".edged.yaml.swp")
            os.utime(main)
            main.chmod(0o644)
            await asyncio.sleep(0.3)
            assert seen.nodes == []
            main.chmod(0o600)
            await seen.wait_for("a")

    play(scene)


def test_a_slow_copy_of_a_bundle_holds_up_no_edit(site) -> None:
    main = site.write("node: a\n")

    async def scene() -> None:
        with watched(site.root) as seen:
            seen.watcher.follow([site.root / "*.edgb"])
            with (site.root / "x.edgb").open("wb") as file:
                file.write(b"half")
                file.flush()
                by_rename(main, "node: b\n")
                await seen.wait_for("b")
                count = len(seen.nodes)
                file.write(b"rest")
            deadline = time.monotonic() + 5
            while len(seen.nodes) == count:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)

    play(scene)


def test_stop_is_final_and_idle_costs_nothing(site) -> None:
    main = site.write("node: a\n")

    async def scene() -> None:
        with watched(site.root) as seen:
            await asyncio.sleep(0.05)
            loop = asyncio.get_running_loop()
            timers = [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
            assert len(timers) <= 3, "the poll, this test's own limit, and nothing periodic"
            seen.watcher.stop()
            by_rename(main, "node: b\n")
            await asyncio.sleep(0.2)
            assert seen.nodes == []
            seen.watcher.stop()

    play(scene)


def test_looks_happen_on_a_thread_of_their_own(site, monkeypatch) -> None:
    """A job for threads of which several are idle wakes each, every few seconds for years."""
    site.write("node: a")
    threads: set[str] = set()

    def look(main: Path, followed: tuple[Path, ...]) -> watching._State:
        threads.add(threading.current_thread().name)
        return watching._State("", "")

    async def scene() -> None:
        for _ in range(3):  # several idle threads that would do
            await asyncio.to_thread(time.sleep, 0)
        with watched(site.root, poll_ns=MS):
            monkeypatch.setattr(watching, "_look", look)
            deadline = time.monotonic() + 8
            while not threads:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.005)

    play(scene)
    assert threads == {"edged-watch_0"}


def test_uvloop_too(site) -> None:
    uvloop = pytest.importorskip("uvloop")
    main = site.write("node: a\n")

    async def scene() -> None:
        with watched(site.root) as seen:
            by_vim(main, "node: b\n")
            await seen.wait_for("b")

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(scene(), 30))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
