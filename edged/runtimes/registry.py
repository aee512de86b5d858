"""Which runtimes there are: a name in a configuration becomes a Runtime.

Decides nothing about which one a model gets. Importing this file imports no backend; making a
runtime imports that one file, and only loading a model imports the backend's package.
"""

from __future__ import annotations

from edged.errors import LoadError
from edged.runtimes.base import Runtime, RuntimeInfo

ARTEFACT_KINDS: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("onnx",),
    "onnxruntime-cuda": ("onnx",),
    "openvino": ("openvino", "onnx"),
}
"""For each runtime's name, which kinds of artefact of a bundle it takes, the best first."""
COMPUTES_IN = {"openvino": "float32"}
"""What a runtime is told to compute floats in that would else choose by itself. It refuses to load
a model for which it does not; what is quantised in a model file stays so."""
DEVICES = {"onnxruntime": "cpu", "onnxruntime-cuda": "cuda", "openvino": "cpu"}
"""For each runtime's name, what its runs keep busy."""
RUNTIME_NAMES = tuple(ARTEFACT_KINDS)
"""Every name that ``create_runtime`` takes."""


def create_runtime(name: str, *, threads: int) -> Runtime:
    """Make a runtime by its name.

    Args:
        name: one of RUNTIME_NAMES.
        threads: threads of one run; 0 for one a core.

    Raises:
        LoadError: there is no such runtime; the message says which there are.
    """
    if name == "onnxruntime":
        from edged.runtimes.onnxruntime import OnnxRuntime  # noqa: PLC0415 - only what is used

        return OnnxRuntime(threads=threads)
    if name == "onnxruntime-cuda":
        from edged.runtimes.onnxruntime_cuda import OnnxCudaRuntime  # noqa: PLC0415

        return OnnxCudaRuntime(threads=threads)
    if name == "openvino":
        from edged.runtimes.openvino import OpenVinoRuntime  # noqa: PLC0415

        return OpenVinoRuntime(threads=threads)
    raise LoadError(f'runtime "{name[:64]}" is not known; there are: {", ".join(RUNTIME_NAMES)}')


def all_infos() -> list[RuntimeInfo]:
    """What each runtime says of itself on this machine; imports the backends. Never raises."""
    return [create_runtime(name, threads=1).info() for name in RUNTIME_NAMES]
