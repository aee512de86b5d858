"""File systems in files, mounted by loop: what the power is cut of."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.process import wait_for

IMAGE_BYTES = 48 << 20
MAKERS: dict[str, tuple[str, ...]] = {
    "ext4": ("mkfs.ext4", "-q"),
    # It makes none of less than 300 MiB otherwise, which would be copied at each cut.
    "xfs": ("mkfs.xfs", "-q", "--unsupported"),
}


def words(doc: str | None) -> argparse.Namespace | None:
    """The command line of what cuts the power; None, and said why, where this machine cannot.

    It ends by SIGTERM as by an exception, so that what is mounted is taken off.
    """
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--cuts", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pretend", action="store_true", help="the control: syncs do nothing")
    parser.add_argument("--fs", choices=sorted(MAKERS), default="ext4", help="the file system")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if reason := problem(args.fs):
        print(f"not done: {reason}")
        return None
    return args


def run(*command: str | Path) -> bool:
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 0


def problem(kind: str = "ext4") -> str:
    """Why it cannot be done on this machine, or nothing."""
    if os.geteuid() != 0 or not all(map(shutil.which, (MAKERS[kind][0], "mount", "umount"))):
        return f"needs root, {MAKERS[kind][0]} and mount"
    with tempfile.TemporaryDirectory() as name:
        try:
            with mounted(new_image(Path(name) / "image", kind=kind), Path(name) / "m"):
                return ""
        except OSError as exc:
            return str(exc)


def new_image(path: Path, size: int = IMAGE_BYTES, *, kind: str = "ext4") -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    assert run(*MAKERS[kind], path)
    return path


def mount_command(image: Path, where: Path) -> tuple[str | Path, ...]:
    """As ``mount`` wants it; of two images of one origin, xfs takes the second on demand only."""
    with image.open("rb") as file:
        is_xfs = file.read(4) == b"XFSB"
    return "mount", "-o", "loop,nouuid" if is_xfs else "loop", image, where


@contextlib.contextmanager
def mounted(image: Path, where: Path) -> Iterator[Path]:
    where.mkdir(exist_ok=True)
    if not run(*mount_command(image, where)):
        raise OSError("no loop device can be mounted here")
    try:
        yield where
    finally:
        wait_for(lambda: run("umount", where), 20, 0.05)
