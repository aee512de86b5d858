"""Public clients that do not install beside ours: KServe's, and Triton's perf_analyzer.

``EDGED_KSERVE`` names a Python that has kserve, ``EDGED_PERF_ANALYZER`` the program (the wheel of
tritonclient 2.50 has one for Debian 12, which wants libb64 and libcudart beside it).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.compat.stand import free_port, serving

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("kserve_rest.py")
_WAIT_S = 120
_ANALYZED = {
    "binary": ("-m", "sorter"),
    # What it makes up for a BOOL is no byte of one.
    "two rows of every number type": ("-m", "echo", "-b", "2", "--input-data", "zero"),
    "shared memory": ("-m", "sorter", "--shared-memory", "system", "--output-shared-memory-size", "64"),
}  # fmt: skip


def test_kserve_over_the_unix_socket(tmp_path: Path) -> None:
    python = os.environ.get("EDGED_KSERVE")
    if not python:
        pytest.skip("kserve is not installed: EDGED_KSERVE names a Python that has it")
    with serving(tmp_path, f"path: {tmp_path}/h"):
        done = subprocess.run(
            [python, str(SCRIPT), f"{tmp_path}/h"],
            capture_output=True, text=True, timeout=_WAIT_S, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_perf_analyzer(tmp_path: Path) -> None:
    program = os.environ.get("EDGED_PERF_ANALYZER")
    if not program:
        pytest.skip("perf_analyzer is not installed: EDGED_PERF_ANALYZER names it")
    port = free_port()
    with serving(tmp_path, f"port: {port}, insecure: true, server_name: triton"):
        for what, options in _ANALYZED.items():
            done = subprocess.run(
                [program, *options, "-u", f"127.0.0.1:{port}", "--request-count", "100"],
                capture_output=True, text=True, timeout=_WAIT_S, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{what}: {done.stdout}{done.stderr}"
            assert "Throughput: " in done.stdout
