"""The child that looks: one line of JSON, whatever the package prints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from edged.system.child import child_environment
from tests.fakes.packages import ROOT, write_package

SOURCE = """
import atexit, sys, os
print("hello"); os.write(1, b"more")
from edged.runtimes.base import RuntimeInfo
class R:
    kinds = ("onnx",)
    def __init__(self, threads): print("made")
    def info(self): return RuntimeInfo("r", "3.1", ("cpu",))
atexit.register(lambda: print("bye"))
"""


def test_what_the_package_prints_is_not_the_answer(tmp_path: Path):
    write_package(tmp_path, "pack", SOURCE, {"r": "pack:R"})
    done = subprocess.run(
        [sys.executable, "-m", "edged.runtimes.look", "r"],
        env=child_environment() | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert answer["version"] == "3.1"
    assert answer["problem"] == ""
