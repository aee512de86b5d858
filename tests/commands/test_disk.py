"""What a person is told to do where the disk refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edged.commands.disk import check_given, refused


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EACCES, "; run it as root"),
        (errno.ENOSPC, "df -i"),
        (errno.EROFS, "remount,rw"),
        (errno.EIO, "dmesg"),
        (errno.EXDEV, "link"),
        (errno.ENOENT, "first start"),
    ],
)
def test_what_to_do(code: int, remedy: str) -> None:
    said = refused(OSError(code, os.strerror(code)))
    assert said.startswith(os.strerror(code))
    assert remedy in said
    assert "first start" not in refused(OSError(code, os.strerror(code)), is_state=False)


def test_a_file_that_may_not_be_looked_at_is_left_to_who_reads_it(tmp_path: Path) -> None:
    (tmp_path / "m.edgb").symlink_to("x" * 300)
    check_given(tmp_path / "m.edgb", "a bundle")
