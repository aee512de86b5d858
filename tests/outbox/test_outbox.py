"""The outbox: one sync for many, reports that are true, rewinding, and what a bad disk does."""

from __future__ import annotations

import os
import queue
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edged.outbox.age import Moment, now
from edged.outbox.disk import Disk
from edged.outbox.entry import Entry, Policy
from edged.outbox.outbox import Outbox
from tests.fakes.cut_disk import CutDisk

S = 10**9
BOOT = b"8 bytes."
CAP = 600_000


class Box:
    """An outbox whose steps, clock and posts are the test's."""

    def __init__(self, disk: CutDisk, cap: int = CAP, age_s: int = 0) -> None:
        self.disk = disk
        self.at_s = 100
        self.posted: list[Callable[[], None]] = []
        self.kept: list[str] = []
        self.refused: list[str] = []
        self.outbox = Outbox(
            disk, self.posted.append, max_bytes=cap, max_age_ns=age_s * S,
            clock=lambda: Moment(BOOT, self.at_s * S, 0),
        )  # fmt: skip
        self.outbox.open()

    def put(self, *names: str, size: int = 0, durable: bool = True, **kw: object) -> None:
        for name in names:

            def on_kept(reason: str, name: str = name) -> None:
                self.kept.append(name) if not reason else self.refused.append(reason)

            data = name.encode() + b" " * size
            entry = Entry(b"k", data, now(), **kw)  # type: ignore[arg-type]
            self.outbox.put(entry, on_kept, is_durable=durable)

    def step(self) -> None:
        self.outbox.step()
        posted, self.posted[:] = self.posted[:], []
        for act in posted:
            act()

    def taken(self, *, done: bool = True) -> list[str]:
        names = []
        for _ in range(1000):
            entry = self.outbox.take()
            if entry is None:
                self.step()
                entry = self.outbox.take()
            if entry is None:
                break
            names.append(entry.data.split()[0].decode())
            if done:
                self.outbox.done(entry)
        self.step()
        return names


def test_one_sync_keeps_many_and_none_is_reported_before_it() -> None:
    box = Box(CutDisk())
    box.put("a", "b", "c")
    syncs = box.disk.syncs_done
    assert box.kept == []
    box.step()
    assert box.kept == ["a", "b", "c"]
    assert box.disk.syncs_done == syncs + 2 + 1  # a new file, the mark of what is read, the entries
    box.put("d")
    box.step()
    assert box.disk.syncs_done == syncs + 4
    assert box.taken() == ["a", "b", "c", "d"]
    assert box.outbox.stats()["delivered"] == 4
    assert box.outbox.stats()["entries"] == 0


def test_the_broker_may_have_it_while_the_disk_syncs_and_nobody_is_told_before() -> None:
    box = Box(CutDisk())
    box.taken()  # it waits for more
    sync, seen = box.disk.sync, []

    def watched(file: int) -> None:
        posted, box.posted[:] = box.posted[:], []
        for act in posted:
            act()
        entry = box.outbox.take()
        seen.append((entry and entry.data, box.kept[:]))
        sync(file)

    box.put("first")
    box.step()
    assert box.taken() == ["first"]
    box.put("a")
    box.disk.sync = watched  # type: ignore[method-assign]
    box.step()
    assert seen == [(b"a", ["first"])]
    assert box.kept == ["first", "a"]


def test_without_durability_nothing_is_synced() -> None:
    box = Box(CutDisk())
    box.put("a")
    box.step()
    syncs = box.disk.syncs_done
    box.put("b", durable=False)
    box.step()
    assert box.kept == ["a", "b"]
    assert box.disk.syncs_done == syncs


def test_what_was_taken_comes_again_after_a_lost_connection_in_order_and_marked() -> None:
    box = Box(CutDisk())
    box.put("a", "b", "c", "d")
    box.step()
    first = [box.outbox.take() for _ in range(3)]
    assert first[1] is not None
    assert not first[1].may_be_sent
    box.outbox.done(first[1])
    box.outbox.rewind()
    box.step()
    again = box.outbox.take()
    assert again is not None
    assert (again.data, again.may_be_sent) == (b"a", True)
    assert box.taken() == ["c", "d"]
    box.outbox.done(first[1])  # twice is once
    box.outbox.done(again)
    box.step()
    assert box.outbox.stats()["delivered"] == 4


def test_too_old_is_not_given_out_and_counted() -> None:
    box = Box(CutDisk(), age_s=1000)
    box.put("short", lifetime_s=5)
    box.put("long")
    box.step()
    box.at_s += 5
    assert box.taken() == ["long"]
    box.put("forgotten")
    box.step()
    box.at_s += 1000
    box.step()
    assert box.taken() == []
    assert box.outbox.stats()["expired"] == 2
    assert box.outbox.stats()["entries"] == 0


@pytest.mark.hostile("E12 an outbox at its cap")
def test_blocking_ones_wait_for_room_in_order() -> None:
    box = Box(CutDisk())
    box.put(*(f"{one}" for one in range(3000)), size=500)
    box.step()
    kept = len(box.kept)
    assert 500 < kept < 3000
    assert "full" in box.outbox.problem
    assert box.outbox.stats()["waiting"] == 3000 - kept
    names = []
    while got := box.taken():
        names += got
    assert names == [f"{one}" for one in range(3000)]
    assert box.kept == names
    assert box.outbox.problem == ""


@pytest.mark.hostile("E12 an outbox at its cap")
def test_small_ones_that_come_later_do_not_take_the_room_of_what_waits() -> None:
    box = Box(CutDisk())
    box.put(*(f"{one}" for one in range(200)), size=5000)
    box.step()
    kept = len(box.kept)
    assert 50 < kept < 200
    for small in ("small", "tiny"), ("last",):  # several are written with one call, one alone
        box.put(*small)
        box.step()
        assert len(box.kept) == kept
    names = []
    while got := box.taken():
        names += got
    assert names == box.kept == [*(f"{one}" for one in range(200)), "small", "tiny", "last"]


def test_dropping_ones_never_wait_and_are_counted() -> None:
    box = Box(CutDisk())
    box.put(*(f"{one}" for one in range(3000)), size=500, policy=Policy.DROP_OLDEST)
    box.step()
    assert len(box.kept) == 3000
    stats = box.outbox.stats()
    assert stats["dropped"] + stats["entries"] == 3000
    # All the room is taken by those that may not be dropped: then the new one itself is.
    box = Box(CutDisk())
    box.put(*(f"{one}" for one in range(3000)), size=500)
    box.step()
    box.put("new", size=500, policy=Policy.DROP_OLDEST)
    box.step()
    assert box.kept[-1] == "new"
    assert box.outbox.stats()["dropped"] == 1


def test_latest_only_replaces_what_was_read_ahead() -> None:
    box = Box(CutDisk())
    box.put("a", policy=Policy.LATEST_ONLY)
    box.step()
    box.put("b", policy=Policy.LATEST_ONLY)
    box.step()
    assert box.taken() == ["b"]
    assert box.outbox.stats()["superseded"] == 1


def test_what_never_fits_is_refused_at_once() -> None:
    box = Box(CutDisk())
    box.put("big", size=CAP)
    box.step()
    assert box.kept == []
    assert "outbox.max_bytes" in box.refused[0]


def test_a_full_disk_waits_drains_and_goes_on() -> None:
    box = Box(CutDisk(capacity=250_000))
    box.put(*(f"{one}" for one in range(600)), size=500)
    box.step()
    assert 100 < len(box.kept) < 600
    assert "No space left" in box.outbox.problem
    names = []
    while got := box.taken():
        names += got
    assert names == [f"{one}" for one in range(600)] == box.kept
    assert box.outbox.problem == ""


def test_a_full_disk_drops_the_oldest_where_it_may() -> None:
    box = Box(CutDisk(capacity=250_000))
    box.put(*(f"{one}" for one in range(600)), size=500, policy=Policy.DROP_OLDEST)
    box.step()
    assert len(box.kept) == 600
    names = []
    while got := box.taken():
        names += got
    assert names[-1] == "599"
    assert box.outbox.stats()["dropped"] == 600 - len(names) > 0


def test_a_sync_that_fails_is_never_trusted_again() -> None:
    box = Box(CutDisk())
    box.put("a")
    box.step()
    changes: list[int] = []
    box.outbox.on_change = lambda: changes.append(1)
    box.disk.fails_sync = True
    box.put("b")
    box.step()
    box.disk.fails_sync = False
    box.put("c")
    box.step()
    assert box.kept == ["a"]
    assert box.refused == [], "who waits is not acknowledged, and asks again after the restart"
    assert changes == [1]
    assert "restart" in box.outbox.problem
    assert box.taken() == ["a", "b"]  # what is there is still delivered


def test_a_sync_that_fails_between_two_files_is_not_trusted_either() -> None:
    box = Box(CutDisk())
    box.put("a")
    box.step()
    box.disk.fails_sync = True
    box.put(*(f"{one}" for one in range(100)), size=500)  # more than one file takes
    box.step()
    box.disk.fails_sync = False
    box.put("b")
    box.step()
    box.at_s += 5
    box.step()
    assert box.kept == ["a"]
    assert "restart" in box.outbox.problem


def test_a_disk_that_fails_at_the_end_stops_nobody_from_closing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    box = Box(CutDisk())
    box.put("a")
    box.step()
    box.put("b", durable=False)
    box.step()
    box.disk.fails_sync = True
    box.outbox.stop()
    assert "could not be closed well: Input/output error" in caplog.text


def test_a_thread_that_dies_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(CutDisk())
    said = threading.Event()
    box.outbox.on_change = said.set
    monkeypatch.setattr(box.outbox, "step", lambda: 1 / 0)
    monkeypatch.setattr(box.outbox, "_post", lambda act: act())
    box.outbox.start()
    box.put("a")
    assert said.wait(30)
    assert "ZeroDivisionError; restart the daemon" in box.outbox.problem
    box.outbox.stop()


def test_a_request_is_known_again() -> None:
    box = Box(CutDisk())
    box.put("a", id=b"i" * 16)
    box.step()
    box.taken()
    again = Box(box.disk.after_kill())
    assert again.outbox.holds(b"i" * 16)
    assert not again.outbox.holds(b"j" * 16)


def lost_in_cut(seed: int, *, syncs: bool) -> int:
    rng = random.Random(seed)
    box = Box(CutDisk(syncs=syncs))
    delivered: set[str] = set()
    count = 0
    for _ in range(rng.randrange(1, 30)):
        names = [f"{count + one}" for one in range(rng.randrange(40))]
        count += len(names)
        box.put(*names, size=rng.choice([0, 900]))
        box.step()
        for _ in range(rng.randrange(30)):
            entry = box.outbox.take()
            if entry is not None and rng.random() < 0.8:
                box.outbox.done(entry)
                delivered.add(entry.data.split()[0].decode())
    again = Box(box.disk.after_cut(rng))
    found: list[str] = []
    while got := again.taken():
        found += got
    assert found == sorted(set(found), key=int)
    return len(set(box.kept) - delivered - set(found))


def test_a_power_cut_loses_nothing_that_was_reported() -> None:
    assert [seed for seed in range(100) if lost_in_cut(seed, syncs=True)] == []


def test_control_a_sync_that_only_pretends_is_noticed() -> None:
    assert sum(lost_in_cut(seed, syncs=False) for seed in range(30)) > 100


class TestThread:
    def test_from_put_to_done(self, tmp_path: Path) -> None:
        posts: queue.Queue[Callable[[], None]] = queue.Queue()
        outbox = Outbox.in_folder(tmp_path / "outbox", posts.put, max_bytes=CAP)
        outbox.open()
        kept: list[str] = []
        got: list[bytes] = []

        def drain() -> None:
            while (entry := outbox.take()) is not None:
                got.append(entry.data)
                outbox.done(entry)

        outbox.on_ready = drain
        outbox.start()
        for one in range(500):
            outbox.put(Entry(b"k", b"%d" % one, now()), kept.append)
        while len(got) < 500 or len(kept) < 500:
            posts.get(timeout=30)()
        outbox.stop()
        assert got == [b"%d" % one for one in range(500)]
        assert kept == [""] * 500
        again = Outbox.in_folder(tmp_path / "outbox", posts.put, max_bytes=CAP)
        again.open()
        assert again.stats()["entries"] == 0

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="No such file"):
            Outbox(Disk(tmp_path / "none" / "outbox"), print, max_bytes=CAP).open()

    @pytest.mark.parametrize("seed", range(3))
    def test_kill_9(self, tmp_path: Path, seed: int) -> None:
        """A process that prints what was kept is killed while it works."""
        script = (
            "import queue, sys\n"
            "from pathlib import Path\n"
            "from edged.outbox.age import now\n"
            "from edged.outbox.entry import Entry\n"
            "from edged.outbox.outbox import Outbox\n"
            "posts = queue.Queue()\n"
            f"box = Outbox.in_folder(Path({str(tmp_path / 'o')!r}), posts.put, max_bytes=1 << 26)\n"
            "box.open(); box.start()\n"
            "n = done = 0\n"
            "def kept(number):\n"
            "    global done\n"
            "    done += 1\n"
            "    print(number, flush=True)\n"
            "while True:\n"
            "    while n - done < 32:\n"
            "        entry = Entry(b'k', b'%d' % n, now())\n"
            "        box.put(entry, lambda reason, n=n: kept(n)); n += 1\n"
            "    posts.get()()\n"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", script]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            kept = [int(process.stdout.readline()) for _ in range(100 + seed * 77)]
            process.send_signal(signal.SIGKILL)
            kept += [int(line) for line in process.stdout.read().split(b"\n")[:-1]]
        posts: list[Callable[[], None]] = []
        outbox = Outbox.in_folder(tmp_path / "o", posts.append, max_bytes=1 << 26)
        outbox.open()
        found: list[int] = []
        while outbox.stats()["entries"] > len(found):
            outbox.step()
            for act in posts:
                act()
            posts.clear()
            while (entry := outbox.take()) is not None:
                found.append(int(entry.data))
        assert found == list(range(len(found)))
        assert set(kept) <= set(found)
