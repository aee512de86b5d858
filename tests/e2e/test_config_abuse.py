"""The configuration under abuse, with the real daemon: whole changes, the last one, and no trace.

Requests flow all the time: every answer must be right, and none may fail. At the end descriptors
and memory are what they were.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import resource
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edged.errors import EdgedError
from tests.bundles import make_bundle
from tests.e2e.editors import WAYS, in_three_pieces
from tests.e2e.process import DaemonProcess, wait_for
from tests.models import double

FACTORS = {1: 2, 2: 3}
EDITS = int(os.environ.get("EDGED_EDITS", "40"))
X = np.ones((1, 4), np.float32)


class Caller(threading.Thread):
    """A client that asks all the time and checks every answer."""

    def __init__(self, daemon: DaemonProcess) -> None:
        super().__init__(daemon=True)
        self.house = daemon
        self.failures: list[str] = []
        self.times_s: list[float] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        with self.house.client(timeout=30) as client:
            while not self.stopped.is_set():
                started = time.perf_counter()
                try:
                    result = client.infer("m", x=X)
                except EdgedError as exc:
                    self.failures.append(f"{type(exc).__name__}: {exc}")
                    continue
                self.times_s.append(time.perf_counter() - started)
                if result["y"][0, 0] != FACTORS[result.release]:
                    self.failures.append(f"wrong numbers from release {result.release}")
                time.sleep(0.002)

    @property
    def p99_ms(self) -> float:
        return sorted(self.times_s)[int(len(self.times_s) * 0.99)] * 1e3


class Box(DaemonProcess):
    """A daemon whose configuration has a directory of its own, with a caller."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.config = directory / "etc/edged.yaml"
        self.config.parent.mkdir(parents=True)
        for release, factor in FACTORS.items():
            make_bundle(
                directory / f"m-{release}.edgb", double(factor=factor), name="m", release=release
            )
        self.number = 0

    def text(self, serve: int = 1, **words: str) -> str:
        """A configuration like no other before: its number is an alias."""
        self.number += 1
        settings = {"settle": "20ms", "poll": "300ms", "socket": str(self.socket)} | words
        return (
            f"node: test\nstate_dir: {self.directory}/state\n"
            f"listen: {{socket: {{path: {settings['socket']}}}}}\n"
            "trust: {require_signatures: false}\n"
            f"reload: {{settle: {settings['settle']}, poll: {settings['poll']}}}\n"
            f"models:\n  m:\n    bundle: [{self.directory}/m-1.edgb, {self.directory}/m-2.edgb]\n"
            f"    serve: {serve}\n    aliases: {{n{self.number}: 1}}\n"
        )

    def applied(self) -> bool:
        """Whether what ``text`` made last is what serves, without any problem."""
        with self.client() as client:
            (model,) = client.models()
            status = client.status()
        is_last = list(model["aliases"]) == [f"n{self.number}"]
        return (
            is_last
            and status["config"]["problems"] == []
            and "config" not in status["degradations"]
        )

    def problems(self) -> list[str]:
        return list(self.status()["config"]["problems"])

    def refused(self, words: str) -> None:
        """The change of last is refused with these words, and what served before serves."""
        wait_for(lambda: any(words in line for line in self.problems()))
        assert not self.applied()

    def reloads(self) -> dict[str, int]:
        with self.client() as client:
            text = client.call("metrics")
        return {
            sample.labels["outcome"]: int(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "edged_reloads_total"
        }

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def held(self) -> tuple[int, float]:
        """Descriptors and resident MiB."""
        seen = psutil.Process(self.pid)
        return seen.num_fds(), seen.memory_info().rss / (1 << 20)


@contextlib.contextmanager
def abused(directory: Path) -> Iterator[Box]:
    """A box that serves; afterwards nothing failed, and nothing is held that was not before."""
    box = Box(directory)
    box.config.write_text(box.text())
    box.start()
    caller = Caller(box)
    try:
        # Once around, so that what is made with the first reload belongs to the baseline.
        for serve in (2, 1, 2, 1):
            box.config.write_text(box.text(serve))
            wait_for(box.applied)
        wait_for(lambda: box.reloads()["applied"] == 4)
        descriptors, memory_mib = box.held()
        caller.start()
        wait_for(lambda: caller.times_s)
        yield box
        caller.stopped.set()
        caller.join(60)
        assert caller.failures == []
        assert "Traceback" not in box.log.read_text()
        # One descriptor for a connection of ours that may still be closing.
        wait_for(lambda: box.held()[0] <= descriptors + 1)
        assert box.held()[1] - memory_mib < 12, "resident MiB more than before"
        print(f"{len(caller.times_s)} answers, p99 {caller.p99_ms:.2f} ms, held {box.held()}")
    finally:
        caller.stopped.set()
        caller.join(60)
        box.stop()


@pytest.mark.slow
def test_every_way_of_saving(tmp_path: Path) -> None:
    """vim, nano, sed, cp, mv, rsync, git, slow writers, clocks of 1970: whole changes only."""
    with abused(tmp_path) as box:
        before = box.reloads()
        for number, save in enumerate(WAYS):
            serve = 1 + number % 2
            save(box.config, box.text(serve))
            wait_for(box.applied)
            assert box.status()["models"][0]["serving"] == serve, save.__name__
        wait_for(lambda: box.reloads()["applied"] - before["applied"] >= len(WAYS))
        assert box.reloads()["refused"] == before["refused"] == 0, box.tail()


@pytest.mark.hostile("F8 an editor that truncates and then writes in pieces")
def test_truncated_and_written_in_three_pieces(tmp_path: Path) -> None:
    """editor truncates, then writes in 3 pieces over 2 s → no partial config is ever applied."""
    with abused(tmp_path) as box:
        before = box.reloads()
        in_three_pieces(box.config, box.text(2), 1.0)
        wait_for(box.applied)
        # Counted at the reload's end, which is after its answers are.
        wait_for(lambda: box.reloads()["applied"] > before["applied"])
        after = box.reloads()
        assert after["refused"] == 0
        assert after["applied"] == before["applied"] + 1


@pytest.mark.slow
def test_a_bundle_replaced_in_place_with_the_same_size_and_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """all mtimes 1970 → reload still noticed by content hash."""
    with abused(tmp_path) as box:
        bundle = box.directory / "m-1.edgb"
        other = make_bundle(box.directory / "other.edgb", double(factor=5), name="m", release=1)
        old, new = bundle.read_bytes(), other.read_bytes()
        assert len(old) == len(new)
        # Not asked for now: the caller asks release 2, so that the change has no moment between.
        box.config.write_text(box.text(2))
        wait_for(box.applied)
        monkeypatch.setitem(FACTORS, 1, 5)
        os.utime(bundle, (0, 0))
        generation = box.status()["generation"]
        with bundle.open("r+b") as file:
            file.write(new)
        os.utime(bundle, (0, 0))
        wait_for(lambda: box.status()["generation"] > generation)
        with box.client() as client:
            assert client.infer("m", x=X, release=1)["y"][0, 0] == 5


@pytest.mark.slow
def test_kubernetes_swaps_its_data_link(tmp_path: Path) -> None:
    """Ten revisions of a ConfigMap, every third one broken: refused whole, and the next one taken."""
    with abused(tmp_path) as box:
        mount = box.config.parent
        for revision in range(10):
            fresh = mount / f"..2026_{revision}"
            fresh.mkdir()
            is_broken = revision % 3 == 2
            text = box.text(1 + revision % 2)
            (fresh / "edged.yaml").write_text(
                text.replace("serve:", "serv:") if is_broken else text
            )
            (mount / "..data_tmp").symlink_to(fresh.name)
            (mount / "..data_tmp").rename(mount / "..data")
            if revision == 0:
                (mount / ".link").symlink_to("..data/edged.yaml")
                (mount / ".link").rename(box.config)
            else:
                shutil.rmtree(mount / f"..2026_{revision - 1}")
            if is_broken:
                box.refused('did you mean "serve"')
            else:
                wait_for(box.applied)


@pytest.mark.hostile("F10 a thousand changes in ten seconds")
@pytest.mark.slow
def test_a_thousand_changes_in_ten_seconds(tmp_path: Path) -> None:
    """1,000 changes in 10 s → coalesced, serving p99 < 2x, last one wins."""
    rng = random.Random(4)
    with abused(tmp_path) as box:
        before, started = box.reloads(), time.monotonic()
        hidden = box.config.with_name(".hidden")
        saves_s: list[float] = []
        for number in range(1000):
            text = box.text(rng.choice([1, 2]), settle="100ms")
            kind = "whole" if number == 999 else rng.choice(["whole", "in place", "broken"])
            if kind == "in place":
                box.config.write_text(text)
            else:
                hidden.write_text(text if kind == "whole" else text + "models: [")
                hidden.rename(box.config)
            saves_s.append(time.monotonic())
            time.sleep(max(0.0, started + (number + 1) * 0.01 - saves_s[-1]))
        took_s = time.monotonic() - started
        wait_for(box.applied)
        after = box.reloads()
        tried = sum(after.values()) - sum(before.values())
        # A busy machine makes us pause, and the daemon may take a pause for the end of the saving.
        pauses = sum(late - early > 0.05 for early, late in itertools.pairwise(saves_s))
        print(f"1000 changes in {took_s:.1f} s, {pauses} pauses: {tried} reloads {after}")
        # At most one a second while saves never pause, and what the last one starts.
        assert tried <= took_s + 10 + pauses


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_mixed_edits(tmp_path: Path) -> None:
    """1,000 mixed edits by real editors and tools during load (``make edits``; fewer here): zero
    failed requests, only whole generations, and nothing refused."""
    rng = random.Random(9)
    with abused(tmp_path) as box:
        before = box.reloads()
        for _ in range(EDITS):
            rng.choice(WAYS)(box.config, box.text(rng.choice([1, 2])))
            if rng.random() < 0.3:
                wait_for(box.applied)
        wait_for(box.applied)
        after = box.reloads()
        print(f"{EDITS} edits, {after}")
        assert after["refused"] == before["refused"], box.tail()


class Few:
    """A process that may open no more descriptors."""

    def __init__(self, box: Box, more: int) -> None:
        self._pid, self._before = box.pid, resource.prlimit(box.pid, resource.RLIMIT_NOFILE)
        highest = max(int(entry.name) for entry in Path(f"/proc/{box.pid}/fd").iterdir())
        # The limit is one above the highest number; numbers below it that are free count too.
        resource.prlimit(box.pid, resource.RLIMIT_NOFILE, (highest + 1 + more, self._before[1]))

    def end(self) -> None:
        resource.prlimit(self._pid, resource.RLIMIT_NOFILE, self._before)


@pytest.mark.hostile("R31 a reload that fails changes nothing")
@pytest.mark.slow
def test_no_descriptor_is_left_during_a_reload(tmp_path: Path) -> None:
    """fd exhaustion → new connections refused, old served, recovers. And R31: nothing is changed."""
    with abused(tmp_path) as box, box.client(timeout=30) as kept:
        kept.status()  # a connection that is there before
        for more in (0, 1, 2, 3, 4, 6):
            few = Few(box, more)
            try:
                box.config.write_text(box.text(1 + more % 2))
                number = f"n{box.number}"
                # On the connection that is there: refused, or done, or not even noticed yet.
                until = time.monotonic() + 1.5
                while time.monotonic() < until:
                    assert kept.infer("m", x=X)["y"][0, 0] in FACTORS.values()
                    if list(kept.models()[0]["aliases"]) == [number]:
                        break
                    time.sleep(0.02)
            finally:
                few.end()
            # By itself: nobody saves anything, nobody sends a signal.
            wait_for(box.applied, 30)


def small(directory: Path) -> None:
    """A file system of a quarter of a MiB."""
    directory.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(directory)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here (needs root)")


@pytest.mark.slow
def test_the_disk_is_full_during_a_reload(tmp_path: Path) -> None:
    """The state's disk: a new bundle is refused, and taken by itself once there is room."""
    state = tmp_path / "state"
    small(state)
    try:
        with abused(tmp_path) as box:
            make_bundle(tmp_path / "m-3.edgb", double(factor=4), name="m", release=3)
            filler = fill(state)
            text = box.text(1).replace("m-2.edgb", "m-3.edgb")
            box.config.write_text(text)
            box.refused("make room")
            # What needs no room is still taken, or says why it is not.
            filler.unlink()
            wait_for(box.applied, 30)
            with box.client() as client:
                assert client.infer("m", x=X, release=3)["y"][0, 0] == 4
    finally:
        subprocess.run(["umount", str(state)], check=True)


@pytest.mark.slow
def test_the_configurations_disk_is_full_while_it_is_saved(tmp_path: Path) -> None:
    """An editor that truncates and then finds no room leaves half a file: refused, then mended."""
    etc = tmp_path / "etc"
    with abused(tmp_path) as box:
        text = box.config.read_text()
        small(etc)
        try:
            etc.chmod(0o755)
            box.config.write_text(text)
            wait_for(box.applied)
            filler = fill(etc)
            with contextlib.suppress(OSError):
                # Room for the page it had: all of that is comment.
                box.config.write_text("#" * 5000 + "\n" + box.text(2))
            box.refused("says nothing")
            filler.unlink()
            box.config.write_text(box.text(2))
            wait_for(box.applied)
        finally:
            subprocess.run(["umount", str(etc)], check=True)
        # The mount gone, the file below it is there again; it is the one of long ago.
        box.config.write_text(box.text(1))
        wait_for(box.applied)


def fill(directory: Path) -> Path:
    """Use up all room."""
    path = directory / "fill"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 512)
    return path


@pytest.mark.hostile(
    "F9 a file that others may write or that is another's", "F11 a new socket path that is in use"
)
@pytest.mark.slow
def test_a_socket_path_in_use_and_files_that_others_may_write(tmp_path: Path) -> None:
    """new socket path in use → refused as a whole, old listeners stay.

    file writable by others, or wrong owner → refused.
    """
    with abused(tmp_path) as box:
        taken = tmp_path / "taken.sock"
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(taken))
            other.listen()
            box.config.write_text(box.text(2, socket=str(taken)))
            box.refused("another process listens on")
            assert box.status()["models"][0]["serving"] == 1
            assert box.socket.exists()
        taken.unlink()
        box.config.write_text(box.text(2))
        wait_for(box.applied)
        # Others may write the file, the directory, a drop-in.
        drop_ins = box.config.parent / "conf.d"
        for path, mode in ((box.config, 0o646), (box.config.parent, 0o757), (drop_ins, 0o777)):
            if path == drop_ins:
                drop_ins.mkdir(mode=0o755)
            right = path.stat().st_mode & 0o777
            path.chmod(mode)
            box.config.write_text(box.text(1))
            box.refused("can be written by every user")
            path.chmod(right)
            wait_for(box.applied)
            box.config.write_text(box.text(2))
            wait_for(box.applied)
        if os.geteuid() == 0:
            os.chown(box.config, 12345, -1)
            box.config.write_text(box.text(1))
            box.refused("belongs to user id 12345")
            os.chown(box.config, 0, -1)
            wait_for(box.applied)


@pytest.mark.hostile(
    "F1 a key twice",
    "F2 an alias bomb of 271 bytes",
    "F3 500 nested brackets",
    "F4 an empty file, comments only, or null",
    "F5 NUL, UTF-16, broken UTF-8",
    "F6 an unknown or misspelt key",
    "F7 a model that is missing or fails its check",
)
@pytest.mark.parametrize(
    ("words", "broken"),
    [
        ("is set twice: first in line 1, again in line 2", "node: a\nnode: b\n"),
        ("is not allowed", "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"),
        ("is nested deeper than", "models: " + "[" * 500 + "]" * 500),
        ("says nothing", "# only a comment\n"),
        ("says nothing", "null\n"),
        ("is UTF-16", "node: a\n".encode("utf-16")),
        ("NUL byte", b"node: a\0\n"),
        ('did you mean "models"', "model: {}\n"),
        (
            "No such file",
            "trust: {require_signatures: false}\nmodels: {m: {bundle: none.edgb}}\n",
        ),
    ],
    ids=[
        "twice",
        "aliases",
        "brackets",
        "comments",
        "null",
        "utf-16",
        "nul",
        "misspelt",
        "missing",
    ],
)
def test_each_broken_file_leaves_what_serves(shared: Box, words: str, broken: str | bytes) -> None:
    """The catalogue's lines on files, each against the daemon: refused with words, old one serves."""
    box = shared
    box.config.write_bytes(broken if isinstance(broken, bytes) else broken.encode())
    wait_for(lambda: any(words in line for line in box.problems()))
    status = box.status()
    assert "config" in status["degradations"]
    with box.client() as client:
        assert client.infer("m", x=X)["y"][0, 0] == 2
    box.config.write_text(box.text())
    wait_for(box.applied)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    box = Box(tmp_path_factory.mktemp("shared"))
    box.config.write_text(box.text())
    box.start()
    yield box
    box.stop()
