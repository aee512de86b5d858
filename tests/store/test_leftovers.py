"""Only what interrupted writers of ours left is removed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from edged.store.leftovers import remove_installs, remove_leftovers


def gone() -> int:
    """The number of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait(60)
    return done.pid


def test_state_directory(tmp_path: Path):
    for folder in ("history/.new-12", "probation", "store/" + "a" * 64):
        (tmp_path / folder).mkdir(parents=True)
    stale = (
        f".activation.log-{'0' * 16}", f".floor.json.{gone()}.tmp", f"history/.marks.json.{gone()}.tmp",
        f"store/{'a' * 64}/.signatures.json-{'0' * 16}",
    )  # fmt: skip
    kept = (
        f".floor.json.{os.getpid()}.tmp", "floor.json", ".mine.tmp", f"store/.x.{gone()}.tmp",
        f"store/{'a' * 64}/model.onnx",
    )  # fmt: skip
    for name in (*stale, *kept):
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path)
    assert not any((tmp_path / name).exists() for name in (*stale, "history/.new-12"))
    assert all((tmp_path / name).exists() for name in kept)
    remove_leftovers(tmp_path / "nothing")


def test_installs(tmp_path: Path):
    for name in (".install-old", ".install-new", "m-1.edgb"):
        (tmp_path / name).write_text("")
    os.utime(tmp_path / ".install-old", (0, time.time() - 7200))
    remove_installs([tmp_path, tmp_path / "nothing"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".install-new", "m-1.edgb"]
