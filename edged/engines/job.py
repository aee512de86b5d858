"""What the process that builds an engine is told, and what it says back."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from edged.manifest import TensorEntry
from edged.runtimes.engine import BuildOptions

JOB, MODEL, GOLDEN = "job.json", "model.onnx", "golden.safetensors"
"""What lies in its folder: the job, the model, the golden inputs by plain name."""
RESULT, ENGINE, ANSWERS = "result.json", "engine", "answers.safetensors"
"""What it leaves: how it went, the engine's file, its answers by plain name."""
STEP = "step"
"""What it is doing now, one word of STEPS."""
STEPS = ("starting", "building", "loading", "checking")
TIMING = "timing"
"""The timing cache: it finds the one of earlier builds, and leaves the new one."""


class BuildJob(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One build.

    Args:
        model: the model's name, for messages.
        inputs: the signature that the bundle promises.
        outputs: likewise.
        options: how to build.
        chunk: golden rows of one run; 0 runs them all in one.
        device: which GPU, as CUDA counts.
        memory_mib: most memory of its own that the process may hold; 0 for what the machine has.
        is_background: whether whatever serves here goes first, and this process is the first that
            the kernel ends when memory is short.
    """

    model: str
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    options: BuildOptions
    chunk: int
    device: int = 0
    memory_mib: int = 0
    is_background: bool = False


class BuildResult(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How it went.

    Args:
        problem: why there is no engine; empty when there is one.
        kind: ``missing`` where TensorRT, the driver, a GPU or a way to CUDA is not there; else
            ``refused``.
    """

    problem: str = ""
    kind: Literal["", "missing", "refused"] = ""
