"""A shortage is waited out with growing pauses; a mistake is left to who made it."""

from __future__ import annotations

import errno
import os

import pytest

from edged.generation.reload_tally import Report
from edged.generation.retry import Retry


def refused(words: str) -> Report:
    return Report(applied=False, at=0.0, problems=("edged.yaml:1:1: other", f"x: {words}"))


@pytest.mark.parametrize(
    "words",
    [
        f"cannot be read: {os.strerror(errno.EMFILE)}",
        f"the state directory cannot be written: {os.strerror(errno.ENOSPC)}",
        "the store's disk has 0 MiB free; make room, then try again",
    ],
)
def test_a_shortage(words: str):
    retry = Retry()
    pauses = [retry.after(refused(words)) for _ in range(8)]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert retry.after(Report(applied=True, at=1.0)) is None
    assert retry.after(refused(words)) == 1.0


def test_a_mistake():
    retry = Retry()
    assert retry.after(refused('unknown name "serv"')) is None
    assert retry.after(refused(os.strerror(errno.EACCES))) is None
    assert retry.after(Report(applied=True, at=0.0)) is None
