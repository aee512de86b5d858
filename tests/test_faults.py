"""Fault points do nothing unless they are asked for, and then end the process at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edged import faults

CODE = """
import atexit
from edged.faults import fault
atexit.register(print, "cleaned up")
fault("here")
print("went on")
"""


@pytest.mark.parametrize(
    ("point", "status", "out"),
    [("here", faults.EXIT_STATUS, ""), ("elsewhere", 0, "went on\ncleaned up\n")],
)
def test_fault(point: str, status: int, out: str):
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=os.environ | {faults.VARIABLE: point},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (status, out)


def test_off_by_default(monkeypatch):
    monkeypatch.delenv(faults.VARIABLE, raising=False)
    faults.fault("here")
