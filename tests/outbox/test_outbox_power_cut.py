"""The power cut on a real file system: the image below it is copied while an outbox is written to.

What the copy holds had reached the block layer; what was only in the file system's cache is gone,
as after a cut. It does not model a drive that reorders or lies. Needs root and loop devices.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.outbox.disk import Disk
from edged.outbox.entry import Entry
from edged.outbox.segment_log import SegmentLog

ROOT = Path(__file__).parents[2]
CUTS = 50
IMAGE_BYTES = 24 << 20
TOOLS = ("mkfs.ext4", "mount", "umount")


def run(*command: str | Path) -> bool:
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 0


@contextlib.contextmanager
def mounted(image: Path, where: Path) -> Iterator[Path]:
    where.mkdir(exist_ok=True)
    if not run("mount", "-o", "loop", image, where):
        pytest.skip("no loop device can be mounted here")
    try:
        yield where
    finally:
        until = time.monotonic() + 20
        while not run("umount", where):
            assert time.monotonic() < until, f"{where} stays mounted"
            time.sleep(0.05)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    if os.geteuid() != 0 or not all(shutil.which(tool) for tool in TOOLS):
        pytest.skip("needs root, mkfs.ext4 and mount")
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    assert run("mkfs.ext4", "-q", path)
    return path


def said(path: Path) -> tuple[set[int], set[int]]:
    """What the process said it had kept, and what it was about to note as delivered."""
    kept: set[int] = set()
    delivered: set[int] = set()
    for line in path.read_bytes().split(b"\n")[:-1]:
        word, _, number = line.partition(b" ")
        (kept if word == b"k" else delivered).add(int(number))
    return kept, delivered


def found_in(copy: Path, where: Path) -> set[int]:
    """The results that an outbox opened after the cut still delivers."""
    with mounted(copy, where) as folder:
        log = SegmentLog(Disk(folder / "outbox"), 8 << 20, 0, b"next one")
        log.open()
        found: set[int] = set()
        entries: list[Entry] = log.read(1000)
        while entries:
            numbers = [int(one.data.split()[0]) for one in entries]
            assert numbers == sorted(numbers), "out of order"
            found.update(numbers)
            log.finish([one.sequence for one in entries])
            entries = log.read(1000)
        log.close()
    return found


def lost_in_cuts(image: Path, cuts: int, *words: str) -> int:
    """Write, cut so often, and count what was said to be kept and is gone."""
    rng = random.Random(1)
    lost = 0
    folder, words_path = image.with_name("live"), image.with_name("said")
    command = [sys.executable, "-m", "tests.outbox.writing", str(folder / "outbox"), *words]
    with (
        mounted(image, folder),
        words_path.open("wb") as output,
        subprocess.Popen(command, stdout=output, cwd=ROOT) as process,
    ):
        try:
            for _ in range(cuts):
                until, goal = time.monotonic() + 60, len(said(words_path)[0]) + rng.randrange(400)
                while len(said(words_path)[0]) <= goal:
                    assert time.monotonic() < until, "nothing is kept any more"
                    time.sleep(0.002)
                process.send_signal(signal.SIGSTOP)
                os.waitpid(process.pid, os.WUNTRACED)
                copy = shutil.copyfile(image, image.with_name("copy"))
                kept, delivered = said(words_path)
                process.send_signal(signal.SIGCONT)
                lost += len(kept - delivered - found_in(copy, image.with_name("after")))
        finally:
            process.kill()
    return lost


@pytest.mark.slow
def test_nothing_that_was_acknowledged_is_lost(image: Path) -> None:
    assert lost_in_cuts(image, CUTS) == 0


@pytest.mark.slow
def test_control_a_sync_that_only_pretends_is_noticed(image: Path) -> None:
    assert lost_in_cuts(image, 3, "pretend") > 100
