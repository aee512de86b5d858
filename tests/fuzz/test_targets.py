"""Every parser under a few hundred mutated inputs, the same each time; `make fuzz` goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edged.errors import EdgedError
from tests.fuzz.mutate import hunt, inputs
from tests.fuzz.targets import TARGETS, Target

RUNS = 2000


@pytest.mark.parametrize("name", TARGETS)
def test_parser_raises_nothing_but_our_errors(name: str) -> None:
    outcome = hunt(TARGETS[name], seed=1, runs=RUNS)
    assert outcome.finding is None, repr(outcome.finding)
    assert outcome.runs == RUNS


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_are_short_and_repeat(name: str) -> None:
    """Time and memory of a run are bounded by what goes in, and a finding can be had again."""
    target = TARGETS[name]
    seeds = target.seeds()
    fixed = Target(target.run, lambda: seeds, target.max_bytes)
    first, second = inputs(fixed, 5), inputs(fixed, 5)
    for _ in range(100):
        data = next(first)
        assert data == next(second)
        assert len(data) <= max(target.max_bytes, *map(len, seeds))


def fragile(data: bytes) -> None:
    """Breaks its promise behind a check that mutations have to get past."""
    if not data.startswith(b"GOOD"):
        raise EdgedError("bad")
    raise IndexError


def test_control_a_target_that_breaks_is_found() -> None:
    def run(data: bytes) -> None:
        try:
            fragile(data)
        except EdgedError:
            return

    outcome = hunt(Target(run, lambda: [b"BOOD", b"GGOD"], 16), seed=1, runs=100_000)
    assert outcome.finding is not None
    data, error = outcome.finding
    assert data.startswith(b"GOOD")
    assert isinstance(error, IndexError)


def test_from_the_command_line(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.run", "--seconds", "0.2"]
    done = subprocess.run(
        [*command, "--target", "json,activation", "--engine", "mutate"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "json: " in done.stdout
    assert "2 targets, 0 with findings" in done.stdout
