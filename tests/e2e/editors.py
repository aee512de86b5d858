"""How people and programs save a file: the programs themselves where they are, else their steps."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

Save = Callable[[Path, str], None]
"""Makes the text of a file what it is told, in one way of saving."""


def quietly(*command: str, cwd: Path | None = None) -> None:
    subprocess.run(
        command, check=True, capture_output=True, stdin=subprocess.DEVNULL, cwd=cwd, timeout=60
    )


def by_vim(path: Path, text: str, backupcopy: str = "auto") -> None:
    """Replaces all lines and writes; ``backupcopy`` decides between in place and rename."""
    if shutil.which("vim") is None:
        steps_of_vim(path, text, in_place=backupcopy == "yes")
        return
    other = path.parent.with_name("wanted.txt")
    other.write_text(text)
    quietly(
        "vim", "-u", "NONE", "-N", "-es", "-c", f"set backupcopy={backupcopy} writebackup",
        "-c", "%d", "-c", f"0r {other}", "-c", "g/^$/d", "-c", "wq", str(path),
    )  # fmt: skip


def by_vim_in_place(path: Path, text: str) -> None:
    by_vim(path, text, "yes")


def by_vim_renaming(path: Path, text: str) -> None:
    by_vim(path, text, "no")


def steps_of_vim(path: Path, text: str, *, in_place: bool) -> None:
    """As strace shows them: swap file, a probe named 4913, then rename or truncate."""
    swap, backup = path.with_name(f".{path.name}.swp"), path.with_name(path.name + "~")
    swap.write_bytes(b"b0VIM 9.0")
    (path.parent / "4913").touch()
    (path.parent / "4913").unlink()
    if in_place:
        shutil.copy2(path, backup)
    else:
        path.rename(backup)
    path.write_text(text)
    backup.unlink()
    swap.unlink()


def by_nano(path: Path, text: str) -> None:
    """Typed into a terminal: cut everything, insert the wanted file, write, leave."""
    if shutil.which("nano") is None:
        steps_of_nano(path, text)
        return
    other = path.parent.with_name("wanted.txt")
    other.write_text(text)
    ours, theirs = pty.openpty()
    nano = subprocess.Popen(
        ["nano", "--ignorercfiles", "--nonewlines", str(path)],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "TERM": "xterm", "LINES": "24", "COLUMNS": "80"},
    )  # fmt: skip
    os.close(theirs)
    try:
        see(ours, b"Exit")
        os.write(ours, b"\x1bt")  # M-T: cut until the end
        time.sleep(0.1)
        os.write(ours, b"\x12")  # ^R: read a file
        see(ours, b"insert")
        os.write(ours, str(other).encode() + b"\r")
        see(ours, b"Read ")
        os.write(ours, b"\x0f")  # ^O: write out
        see(ours, b"File Name to Write")
        os.write(ours, b"\r")
        see(ours, b"Wrote ")
        os.write(ours, b"\x18")  # ^X
        nano.wait(20)
    finally:
        if nano.poll() is None:
            nano.kill()
            nano.wait(10)
        os.close(ours)
    assert path.read_text() == text


def see(terminal: int, words: bytes, seconds: float = 20.0) -> None:
    """Read the terminal until the words were on it."""
    seen, until = b"", time.monotonic() + seconds
    while words not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0.0, until - time.monotonic()))
        assert ready, f"{words!r} did not come; the terminal says {seen[-500:]!r}"
        seen += os.read(terminal, 1 << 16)


def steps_of_nano(path: Path, text: str) -> None:
    """A lock file, then truncated and written in place."""
    lock = path.with_name(f".{path.name}.swp")
    lock.write_bytes(b"b0nano")
    path.write_text(text)
    lock.unlink()


def by_sed(path: Path, text: str) -> None:
    """``sed -i``: every line, whatever it is, becomes nothing; the first one all of the text."""
    other = path.parent.with_name("wanted.txt")
    other.write_text(text)
    quietly("sed", "-i", "-e", f"1r {other}", "-e", "d", str(path))


def by_cp(path: Path, text: str) -> None:
    other = path.parent.with_name("wanted.txt")
    other.write_text(text)
    quietly("cp", str(other), str(path))


def by_mv(path: Path, text: str) -> None:
    other = path.parent.with_name("wanted.txt")
    other.write_text(text)
    quietly("mv", "-f", str(other), str(path))


def by_rsync(path: Path, text: str, *options: str) -> None:
    source = path.parent.with_name("from")
    source.mkdir(exist_ok=True)
    (source / path.name).write_text(text)
    if shutil.which("rsync") is not None:
        quietly("rsync", "-a", "--ignore-times", *options, f"{source}/{path.name}", str(path))
    elif options:
        path.write_text(text)
    else:
        hidden = path.with_name(f".{path.name}.Xa1b2c")
        shutil.copy2(source / path.name, hidden)
        hidden.rename(path)


def by_rsync_in_place(path: Path, text: str) -> None:
    by_rsync(path, text, "--inplace")


def by_git(path: Path, text: str) -> None:
    """A checkout of another branch; the configuration's directory is the work tree."""
    at = path.parent
    me = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    if not (at / ".git").exists():
        quietly("git", "init", "-q", "-b", "old", cwd=at)
        quietly("git", "add", "edged.yaml", cwd=at)
        quietly("git", *me, "commit", "-qm", "old", cwd=at)
    # The commit is made without the work tree, so that only the checkout touches it.
    blob = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"],
        input=text, text=True, capture_output=True, check=True, cwd=at,
    ).stdout.strip()  # fmt: skip
    tree = subprocess.run(
        ["git", "mktree"],
        input=f"100644 blob {blob}\t{path.name}\n", text=True, capture_output=True, check=True, cwd=at,
    ).stdout.strip()  # fmt: skip
    commit = subprocess.run(
        ["git", *me, "commit-tree", tree, "-m", "x"],
        text=True, capture_output=True, check=True, cwd=at,
    ).stdout.strip()  # fmt: skip
    quietly("git", "branch", "-f", f"b{commit}", commit, cwd=at)
    quietly("git", "checkout", "-qf", f"b{commit}", cwd=at)


def in_three_pieces(path: Path, text: str, seconds: float = 2.0) -> None:
    """Truncates, then writes three pieces over two seconds, each cut in the middle of a line."""
    third = len(text) // 3
    with path.open("w") as file:
        for number in range(3):
            time.sleep(seconds / 4)
            end = len(text) if number == 2 else (number + 1) * third
            file.write(text[number * third : end])
            file.flush()
        time.sleep(seconds / 4)


def back_in_time(path: Path, text: str) -> None:
    """As a device without a clock saves: every time stamp is of 1970."""
    hidden = path.with_name(".hidden")
    hidden.write_text(text)
    os.utime(hidden, (0, 0))
    hidden.rename(path)


def in_place_back_in_time(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, (0, 0))


WAYS: tuple[Save, ...] = (
    by_vim_in_place, by_vim_renaming, by_nano, by_sed, by_cp, by_mv, by_rsync, by_rsync_in_place,
    by_git, back_in_time, in_place_back_in_time, in_three_pieces,
)  # fmt: skip
