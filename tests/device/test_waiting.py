"""What the kernel says of threads that wait for a core."""

from __future__ import annotations

import os
from pathlib import Path

from edged.device.waiting import waited_ns


def test_of_all_threads(tmp_path: Path):
    said = {"7/task/7": "900 30 5\n", "7/task/8": "10 12 1\n", "thread-self": "1 100 1\n"}
    for thread, text in said.items():
        folder = tmp_path / "proc" / thread
        folder.mkdir(parents=True)
        (folder / "schedstat").write_text(text)
    assert waited_ns(7, tmp_path) == 142, "and the thread that asks"
    assert waited_ns(8, tmp_path) == 100


def test_nonsense_is_no_wait(tmp_path: Path):
    folder = tmp_path / "proc/7/task/7"
    folder.mkdir(parents=True)
    for text in ("", "1\n", "a b c\n"):
        (folder / "schedstat").write_text(text)
        assert waited_ns(7, tmp_path) == 0


def test_the_real_kernel_never_counts_backwards():
    before = waited_ns(os.getpid())
    assert 0 <= before <= waited_ns(os.getpid())
