"""The steps of a conversion: told as they begin, kept only when they end well."""

import subprocess
import sys
from pathlib import Path

import pytest

from converters.steps import Steps

ROOT = Path(__file__).resolve().parents[2]


def test_a_step_is_told_at_its_beginning_and_kept_at_its_end():
    told = []
    steps = Steps(told.append)
    with steps.step("packing"):
        assert told == ["packing"]
        assert not steps.done
    (step,) = steps.done
    assert step.name == "packing"
    assert step.seconds >= 0
    assert step.peak_bytes > 1 << 20  # the kernel counts in kilobytes, the report in bytes


CHILD = """
import subprocess, sys
from converters.steps import Steps

steps = Steps(lambda _: None)
with steps.step("small"):
    pass
own = steps.done[0].peak_bytes
with steps.step("with a child"):
    code = f"held = bytearray({own} + (64 << 20)); held[::4096] = b'1' * len(held[::4096])"
    subprocess.run([sys.executable, "-c", code], check=True)
print(steps.done[1].peak_bytes - own)
"""


def test_the_memory_of_a_started_process_counts():
    """In a small process: a test's own may have held gigabytes before."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 32 << 20


def test_one_that_raises_is_not_kept():
    steps = Steps(lambda _: None)
    with pytest.raises(ValueError, match="broken"), steps.step("reading"):
        raise ValueError("broken")
    assert not steps.done
