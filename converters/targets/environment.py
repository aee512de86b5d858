"""An empty environment of a target: a Python with numpy and that ONNX Runtime, and nothing else.

What loads where it was made may not load anywhere else: another runtime version, no locale, no
framework beside it. The environment is made once a version and kept in the user's cache; where it
cannot be made (no network, no such Python) that is said, never taken for passed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from converters.elements import is_text
from converters.errors import ConversionError, UnsupportedModelError
from converters.targets.table import Target
from edged.strings import strings
from edged.tensors import BFLOAT16, Array

Mode = Literal["auto", "require", "off"]
VARIABLE = "EDGED_TARGET_ENVS"
"""Where the environments are kept; ``off`` makes ``auto`` look at none."""
PROBE = Path(__file__).with_name("probe.py")
MAKE_TIMEOUT_S = 300
"""numpy and onnxruntime are 40 MB of wheels; a slow line takes minutes."""
RUN_TIMEOUT_S = 300
_PROBE_ENVIRONMENT = {
    "LANG": "C",
    "LC_ALL": "C",
    "PATH": "/usr/bin:/bin",
    "ORT_DISABLE_TELEMETRY": "1",
    "OMP_NUM_THREADS": "1",
}
"""Everything that the probe sees: as bare as the smallest container."""


class NotCheckedError(Exception):
    """The environment cannot be had here; the message says why and what to do."""


@dataclass(frozen=True)
class Probed:
    """What the model did there.

    Args:
        python: the version that ran it.
        onnxruntime: the version that ran it.
        outputs: its answers to the rows, by output.
    """

    python: str
    onnxruntime: str
    outputs: dict[str, Array]


Ask = Callable[[bytes, Mapping[str, Array]], Probed]


def cache_folder() -> Path:
    """Where environments are kept: the user's cache, unless the variable says otherwise."""
    named = os.environ.get(VARIABLE, "")
    if named and named != "off":
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "edged" / "targets"


@contextlib.contextmanager
def started(target: Target, mode: Mode) -> Iterator[Ask]:
    """Start the target's interpreter now, and ask it later: it gets ready beside other work.

    Args:
        target: whose ONNX Runtime it is.
        mode: ``off`` looks at nothing.

    Yields:
        A function that loads and runs a model there, once. It raises NotCheckedError where there
        is no such environment and none can be made, and UnsupportedModelError where the model does
        not load or run, in the runtime's words.
    """
    with tempfile.TemporaryDirectory(prefix="edged-probe-") as name:
        try:
            process = _start(target, mode, Path(name))
        except NotCheckedError as exc:
            reason = str(exc)

            def refuse(_model: bytes, _inputs: Mapping[str, Array]) -> Probed:
                raise NotCheckedError(reason)

            yield refuse
            return
        try:
            yield lambda model, inputs: _ask(process, Path(name), target, model, inputs)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def _start(target: Target, mode: Mode, folder: Path) -> subprocess.Popen[bytes]:
    if mode == "off" or (mode == "auto" and os.environ.get(VARIABLE) == "off"):
        raise NotCheckedError(f"switched off (--empty-env {mode}, {VARIABLE})")
    return subprocess.Popen(
        [str(prepare(target)), "-I", str(PROBE), str(folder)],
        cwd=folder, env={**_PROBE_ENVIRONMENT, "HOME": str(folder)}, stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def _ask(
    process: subprocess.Popen[bytes],
    folder: Path,
    target: Target,
    model: bytes,
    inputs: Mapping[str, Array],
) -> Probed:
    (folder / "model.onnx").write_bytes(model)
    write_arrays(folder, "inputs", inputs)
    answer = _read_answer(process, folder)
    if answer.get("lacks"):
        raise NotCheckedError(f"ONNX Runtime {answer['onnxruntime']} {answer['lacks']}")
    if "error" in answer:
        raise UnsupportedModelError(
            f"in an empty environment of {target.title} (Python {answer['python']}, ONNX "
            f"Runtime {answer['onnxruntime']}, LANG=C) the model does not {answer['step']}: "
            f"{answer['error']}"
        )
    return Probed(answer["python"], answer["onnxruntime"], read_arrays(folder, "outputs"))


def write_arrays(folder: Path, name: str, arrays: Mapping[str, Array]) -> None:
    """Write rows as the probe reads them: NumPy has no bfloat16, and pads strings with zeros.

    Raises:
        NotCheckedError: strings that are no UTF-8.
    """
    held: dict[str, Any] = {}
    texts: dict[str, Any] = {}
    for key, array in arrays.items():
        if is_text(array):
            try:
                values = [one.decode() for one in array.reshape(-1).tolist()]
            except UnicodeDecodeError:
                raise NotCheckedError(f'"{key}" has strings that are no UTF-8') from None
            texts[key] = {"shape": list(array.shape), "values": values}
        elif array.dtype == BFLOAT16:
            held[f"bfloat16.{key}"] = array.view(np.uint16)
        else:
            held[f"plain.{key}"] = array
    np.savez(folder / f"{name}.npz", **held)
    (folder / f"{name}.json").write_text(json.dumps(texts), "ascii")


def read_arrays(folder: Path, name: str) -> dict[str, Array]:
    """Read rows as the probe wrote them."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as archive:
        held = [(*key.split(".", 1), archive[key]) for key in archive.files]
    found: dict[str, Array] = {
        key: array.view(BFLOAT16) if kind == "bfloat16" else array for kind, key, array in held
    }
    for key, text in json.loads((folder / f"{name}.json").read_text("ascii")).items():
        found[key] = strings([one.encode() for one in text["values"]], text["shape"])
    return found


def prepare(target: Target) -> Path:
    """The Python of the target's environment; made where it is not there yet.

    Raises:
        NotCheckedError: it cannot be made; says why.
    """
    base = find_python(target.python)
    folder = cache_folder() / f"onnxruntime-{target.onnxruntime}-py{_version_of(base)}"
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(folder.with_name(folder.name + ".lock")):
            if not (folder / "complete").exists():
                _make(base, target, folder)
    except OSError as exc:
        raise NotCheckedError(f"{folder.parent}: {exc.strerror or exc}") from exc
    return python


def find_python(version: str) -> Path:
    """An interpreter of that version; else the one that runs this.

    The runtime's version decides what loads; the interpreter's is the second best thing to match.
    """
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return Path(sys.executable)
    found = shutil.which(f"python{version}")
    if found and _answers(Path(found), version):
        return Path(found)
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for python in sorted(root.glob(f"versions/{version}.*/bin/python")):
        if _answers(python, version):
            return python
    return Path(sys.executable)


def _answers(python: Path, version: str) -> bool:
    """Whether it really runs: pyenv's shims exist for versions that are not switched on."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return _version_of(python) == version
    return False


def _version_of(python: Path) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run(
        [str(python), "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Two conversions at once make one environment."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(base: Path, target: Target, folder: Path) -> None:
    """Make the environment in place: a virtual environment cannot be moved."""
    shutil.rmtree(folder, ignore_errors=True)
    packages = ["numpy", f"onnxruntime=={target.onnxruntime}"]
    steps = [
        [str(base), "-I", "-m", "venv", str(folder)],
        [
            *(str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"),
            *("--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"),
            *("--retries", "1", "--timeout", "15", *packages),
        ],
    ]
    for words in steps:
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=MAKE_TIMEOUT_S, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as exc:
            shutil.rmtree(folder, ignore_errors=True)
            raise NotCheckedError(f"no environment: {exc}") from exc
        if done.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            said = (done.stderr or done.stdout).strip().splitlines()
            reason = next((line for line in reversed(said) if "ERROR" in line), " ".join(said[-1:]))
            raise NotCheckedError(
                f"an environment with ONNX Runtime {target.onnxruntime} cannot be made here "
                f"({reason.strip()[:200]}); it needs the package index once, then it is kept in "
                f"{folder.parent}"
            )
    (folder / "complete").touch()


def _read_answer(process: subprocess.Popen[bytes], folder: Path) -> dict[str, str]:
    """Let the waiting process begin, and read what it wrote."""
    try:
        _out, err = process.communicate(b"begin\n", timeout=RUN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise ConversionError(
            f"the model ran longer than {RUN_TIMEOUT_S} s in the target's empty environment"
        ) from None
    try:
        answer: dict[str, str] = json.loads((folder / "answer.json").read_text("ascii"))
    except (OSError, ValueError) as exc:
        last = err.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise UnsupportedModelError(
            "the model ended the target's empty environment "
            f"({_how(process.returncode)}): {' '.join(last)[:300] or 'it said nothing'}"
        ) from exc
    return answer


def _how(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
