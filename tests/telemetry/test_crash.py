"""A run that died by its own doing leaves a traceback; one that was killed from outside does not."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from edged.telemetry.crash import CrashMark, headline

PROGRAM = """
    import os, signal, sys
    from pathlib import Path
    from edged.telemetry.crash import CrashMark

    mark = CrashMark(Path(sys.argv[1]))
    print(mark.take().partition("\\n")[0], flush=True)
    mark.arm()

    def a_function_to_be_named():
        how = sys.argv[2]
        if how == "clean":
            mark.disarm()
        elif how == "exception":
            raise ZeroDivisionError
        elif how == "after the end":
            mark.disarm()
            mark.disarm()
            # The next file gets the number of the one that was closed.
            other = Path(sys.argv[1], "other").open("wb")
            os.kill(os.getpid(), signal.SIGSEGV)
        else:
            os.kill(os.getpid(), getattr(signal, how))

    a_function_to_be_named()
"""


def run(directory: Path, how: str) -> tuple[int, str]:
    """One life of a process: how it ended, and what it took of the one before."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(directory), how],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize(
    ("how", "status", "left"),
    [
        ("SIGSEGV", -signal.SIGSEGV, "Fatal Python error: Segmentation fault"),
        ("SIGABRT", -signal.SIGABRT, "Fatal Python error: Aborted"),
        ("SIGFPE", -signal.SIGFPE, "Fatal Python error: Floating point exception"),
        ("SIGKILL", -signal.SIGKILL, ""),
        ("SIGTERM", -signal.SIGTERM, ""),
        ("clean", 0, ""),
        ("exception", 1, ""),
        ("after the end", -signal.SIGSEGV, ""),
    ],
)
def test_how_a_run_ended(tmp_path: Path, how: str, status: int, left: str):
    assert run(tmp_path, how) == (status, "")
    mark = CrashMark(tmp_path)
    text = mark.take()
    # Python 3.13 writes "Floating-point".
    assert text.partition("\n")[0].replace("-", " ") == left
    assert ("a_function_to_be_named" in text) is bool(left)
    assert mark.take() == "", "it is told once"
    assert (tmp_path / "crash.last.txt").exists() is bool(left)
    other = tmp_path / "other"
    assert not other.exists() or other.read_bytes() == b"", "it wrote into another's file"


def test_from_run_to_run(tmp_path: Path):
    """What one leaves the next one takes, and only that one; the last is kept to be looked at."""
    assert run(tmp_path, "SIGSEGV")[1] == ""
    assert run(tmp_path, "SIGKILL")[1] == "Fatal Python error: Segmentation fault"
    assert run(tmp_path, "SIGABRT")[1] == ""
    assert run(tmp_path, "clean")[1] == "Fatal Python error: Aborted"
    assert run(tmp_path, "clean")[1] == ""
    assert (tmp_path / "crash.last.txt").read_text().startswith("Fatal Python error: Aborted")
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


class TestDisk:
    @pytest.mark.parametrize(
        "data", [b"\xff\xfe\0bad", b"Fatal Python error: x" + b"y" * (1 << 20)]
    )
    def test_whatever_is_in_the_file(self, tmp_path: Path, data: bytes):
        (tmp_path / "crash.txt").write_bytes(data)
        text = CrashMark(tmp_path).take()
        assert 0 < len(text) <= 64 << 10

    def test_blank_is_no_crash(self, tmp_path: Path):
        (tmp_path / "crash.txt").write_bytes(b"\n \n")
        assert CrashMark(tmp_path).take() == ""

    def test_a_missing_directory_harms_nobody(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ):
        mark = CrashMark(tmp_path / "none")
        assert mark.take() == ""
        mark.arm()
        assert "a crash would leave no trace: No such file" in caplog.text
        mark.disarm()

    def test_a_link_is_not_followed(self, tmp_path: Path, caplog: pytest.LogCaptureFixture):
        victim = tmp_path / "victim"
        victim.write_text("mine")
        (tmp_path / "crash.txt").symlink_to(victim)
        mark = CrashMark(tmp_path)
        mark.arm()
        assert "a crash would leave no trace" in caplog.text
        mark.disarm()
        assert victim.read_text() == "mine"

    def test_not_inherited(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("faulthandler.enable", lambda _: None)
        monkeypatch.setattr("faulthandler.disable", lambda: None)
        mark = CrashMark(tmp_path)
        mark.arm()
        assert not os.get_inheritable(mark._fd)
        fd = mark._fd
        mark.disarm()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Fatal Python error: Segmentation fault\n\nThread 0x1\n  File", "Segmentation fault"),
        ("something else\nmore", "something else"),
        ("", ""),
        ("x" * 1000, "x" * 200),
    ],
)
def test_headline(text: str, line: str):
    assert headline(text) == line
