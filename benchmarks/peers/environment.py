"""A peer's own environment: made once, from the package index, below a folder that git ignores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from benchmarks.stand import ROOT, BenchError

HOME = "EDGED_PEERS"
"""Environment variable: where the environments are, for a machine that has them somewhere else."""
INSTALL_S = 900.0
_VERSION = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"


def home() -> Path:
    """Where the environments are."""
    return Path(os.environ.get(HOME) or ROOT / ".venv-peers").absolute()


@dataclass(frozen=True)
class Environment:
    """A virtual environment with exactly these packages and what they need.

    Args:
        folder: its own; its name is what people are told.
        packages: requirements as pip reads them; the first is the peer itself.
    """

    folder: Path
    packages: tuple[str, ...]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin/python"

    @property
    def site(self) -> Path:
        """Where its packages are."""
        name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        return self.folder / "lib" / name / "site-packages"

    def make(self) -> None:
        """Install what is not there yet.

        Raises:
            BenchError: pip refused; says what it said last.
        """
        stamp, wanted = self.folder / "made.json", [sys.version, *self.packages]
        if stamp.exists() and json.loads(stamp.read_text()) == wanted:
            return
        base = getattr(sys, "_base_executable", sys.executable)
        self._run([base, "-m", "venv", "--clear", str(self.folder)])
        pip = [str(self.python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        self._run([*pip, "install", *self.packages])
        stamp.write_text(json.dumps(wanted))

    def versions(self) -> str:
        """The peer's version, and that of the ONNX Runtime inside where it has one."""
        names = [one.split("[")[0].split("=")[0].split("<")[0] for one in self.packages]
        asked = [names[0], *(name for name in names[1:] if name == "onnxruntime")]
        found = self._run([str(self.python), "-c", _VERSION, *asked]).split()
        return ", ".join(f"{name} {one}" for name, one in zip(asked, found, strict=True))

    def _run(self, command: list[str]) -> str:
        name = self.folder.name
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=INSTALL_S
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise BenchError(f"{name} is not installed: {exc}") from exc
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            why = (errors or done.stderr.splitlines()[-1:] or ["no word"])[-1]
            raise BenchError(f"{name} is not installed: {why[:300]}")
        return done.stdout


def shared_python() -> Path:
    """The folder of this interpreter's shared library, for a program that embeds it.

    Raises:
        BenchError: it was built without one.
    """
    folder = Path(str(sysconfig.get_config_var("LIBDIR")))
    name = str(sysconfig.get_config_var("INSTSONAME"))
    if not name.endswith(".so") and ".so." not in name:
        raise BenchError(f"{sys.executable} has no shared library, which Triton's stub needs")
    return folder
