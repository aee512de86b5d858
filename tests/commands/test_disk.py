"""What a person is told to do where the disk refuses."""

from __future__ import annotations

import errno
import os

import pytest

from edged.commands.disk import refused


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
