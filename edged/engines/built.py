"""What a build left, and whether it is believed: an engine of that model, with everything told.

The process that builds runs native code that may go wrong in any way; its files are data. A
fingerprint with a gap is refused, for no device could tell from it whether the engine is its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edged import decoding
from edged.engines.job import ANSWERS, ENGINE, RESULT, TIMING, BuildJob, BuildResult
from edged.errors import BuildError, LoadError, ManifestError, NoDeviceError
from edged.runtimes.engine import Engine, Fingerprint, decode
from edged.store.golden import read_safetensors
from edged.tensors import Array

ENGINE_CAP_BYTES = 4 << 30
"""A bundle holds no larger member."""
_RESULT_CAP_BYTES = 1 << 20
TIMING_CAP_BYTES = 256 << 20
"""Timings of very many layers; more would cost more to read than it saves."""
_MAY_BE_EMPTY = ("l4t", "driver")
"""Of a host: a Jetson's driver has no version of its own, and others have no L4T. One is there."""
_KINDS = {"float16": "HALF", "int8": "INT8"}
"""By precision, TensorRT's name of the type that an engine has to have."""


@dataclass(frozen=True)
class Built:
    """What came back.

    Args:
        engine: with its fingerprint; not yet held against the golden answers.
        answers: to the golden inputs, by output.
        timing_cache: for the next build.
    """

    engine: Engine
    answers: dict[str, Array]
    timing_cache: bytes


def read_built(folder: Path, job: BuildJob, onnx_sha256: str, precision: str) -> Built:
    """Read the folder of a building process that has ended.

    Args:
        folder: its own.
        job: what it was told.
        onnx_sha256: of the model that it was given.
        precision: what the bundle calls the model's; the engine has to have it.

    Raises:
        NoDeviceError: TensorRT, a driver, a GPU or a way to CUDA is not there.
        BuildError: TensorRT refused it, another precision came out, or what was left is not whole.
    """
    try:
        result = decoding.decode(read_left(folder, RESULT, _RESULT_CAP_BYTES), BuildResult)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BuildError(f"the build process left a malformed result: {exc}") from exc
    if result.kind == "missing":
        raise NoDeviceError(result.problem)
    if result.problem:
        raise BuildError(result.problem)
    data = read_left(folder, ENGINE, ENGINE_CAP_BYTES)
    try:
        engine = decode(data)
        check_fingerprint(engine.fingerprint, job, onnx_sha256, precision)
        answers = read_safetensors(read_left(folder, ANSWERS, ENGINE_CAP_BYTES))
    except (LoadError, ManifestError) as exc:
        raise BuildError(f"what the build left is no engine: {exc.message}") from exc
    return Built(engine, answers, read_left(folder, TIMING, TIMING_CAP_BYTES))


def check_fingerprint(
    fingerprint: Fingerprint, job: BuildJob, onnx_sha256: str, precision: str
) -> None:
    """Refuse an engine that does not say everything of itself, or is another than was asked for.

    Raises:
        BuildError: names the field.
    """
    host = msgspec.structs.asdict(fingerprint.host)
    gaps = [name for name, value in host.items() if not value and name not in _MAY_BE_EMPTY]
    if not host["driver"] and not host["l4t"]:
        gaps.append("driver")
    if gaps:
        raise BuildError(
            f"the engine's fingerprint lacks {', '.join(gaps)}: without it no device can tell "
            "whether the engine was built for it"
        )
    if fingerprint.onnx_sha256 != onnx_sha256 or fingerprint.options != job.options:
        raise BuildError("the engine's fingerprint is of another model, or of other options")
    names = {one.name for one in fingerprint.io}
    if names != {entry.name for entry in (*job.inputs, *job.outputs)}:
        raise BuildError(
            f"the engine's fingerprint has other inputs and outputs than the bundle: "
            f"{', '.join(sorted(names))}"
        )
    if not fingerprint.built:
        raise BuildError(
            "the engine's fingerprint lacks built: TensorRT tells nothing of the layers it made, "
            "so nobody knows their precision"
        )
    wanted = _KINDS.get(precision)
    if wanted and wanted not in fingerprint.built:
        made = ", ".join(f"{count} {kind}" for kind, count in fingerprint.built.items())
        raise BuildError(f"the bundle's model is {precision}; the engine has layers of {made}")


def read_left(folder: Path, name: str, cap_bytes: int) -> bytes:
    """Read one plain file of the folder; a link would be somebody else's file.

    Raises:
        BuildError: it is not there, no plain file, or too large.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(folder / name, flags)
    except OSError as exc:
        raise BuildError(f"the build process left no {name}") from exc
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_size > cap_bytes:
            raise BuildError(f"the build's {name} is over {cap_bytes} bytes")
        return file.read(cap_bytes)
