"""ONNX Runtime on an NVIDIA GPU, through its CUDA provider.

Decides whether a session really runs there. The package alone does not tell: with a library missing
it prints a line and runs on the CPU, and with an operator missing it copies back and forth. Here a
session without the GPU is a LoadError, so that the next runtime of the model's list takes over and
the reason stands in the log and in the status; nodes left on the CPU are counted and named.

Numbers: TF32 is off, because it rounds inputs of float32 to ten bits, and golden samples were made
without it.
"""

from __future__ import annotations

import ctypes
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from edged.errors import LoadError
from edged.runtimes.base import Artefact, RuntimeInfo
from edged.runtimes.cuda import Cuda, driver_problem, open_cuda
from edged.runtimes.onnxruntime import CPU, OnnxRuntime, Placement, backend_module, clean
from edged.runtimes.onnxruntime_device import OnnxDeviceSession, Place

log = logging.getLogger("edged.runtimes")

CUDA = "CUDAExecutionProvider"
_INSTALL = (
    'pip install "edged[gpu]" in place of edged[cpu], with the CUDA and cuDNN it was made for'
)
_SHARED, _LIBRARY = "libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"
_RECORD = "session.record_ep_graph_assignment_info"
_NAMED = 6
"""So many kinds of operators are named in a line of the log."""


class OnnxCudaRuntime(OnnxRuntime):
    """Loads ONNX files on one GPU.

    Args:
        threads: for nodes that stay on the CPU; 0 for one a core this process may use.
        device: which GPU, as CUDA counts.
    """

    name = "onnxruntime-cuda"

    def __init__(self, *, threads: int, device: int = 0) -> None:
        super().__init__(threads=threads)
        self._device = device

    def info(self) -> RuntimeInfo:
        """Say whether the package, its CUDA libraries, a driver and a GPU are there."""
        found = super().info()
        problem = found.problem or _problem(backend_module())
        if problem:
            return RuntimeInfo(self.name, "", (), problem)
        return RuntimeInfo(self.name, found.version, (f"cuda:{self._device}",))

    def _options(self, backend: Any, artefact: Artefact) -> Any:
        options = super()._options(backend, artefact)
        options.add_session_config_entry(_RECORD, "1")
        return options

    def _providers(self) -> list[Any]:
        settings = {
            "device_id": str(self._device),
            # Memory grows by what is asked for, not to the next power of two: others live here too.
            "arena_extend_strategy": "kSameAsRequested",
            # The default measures every algorithm again for each new batch size, in a request.
            "cudnn_conv_algo_search": "HEURISTIC",
            "use_tf32": "0",
        }
        return [(CUDA, settings), CPU]

    def _session(
        self, session: Any, artefact: Artefact, placed: Placement | None, run_options: Any
    ) -> OnnxDeviceSession:
        device = Place("cuda", self._device)
        pins = pinned_memory(self._device)
        return OnnxDeviceSession(session, artefact, placed, run_options, device, pins=pins)

    def _placement(self, where: str, session: Any) -> Placement | None:
        got = session.get_providers()
        if CUDA not in got:
            reason = _problem(backend_module()) or "it does not say why"
            raise LoadError(f"{where}: onnxruntime gave {', '.join(got)} and no CUDA: {reason}")
        placed = placement(session)
        if placed is None:
            return None
        gpu, cpu = placed
        if not gpu:
            raise LoadError(
                f"{where}: none of its {sum(cpu.values())} nodes runs on the GPU "
                f"({_words(cpu)}); name the runtime onnxruntime for it"
            )
        if cpu:
            log.warning(
                "%s: %d of %d nodes run on the CPU: %s",
                *(where, sum(cpu.values()), sum(gpu.values()) + sum(cpu.values()), _words(cpu)),
            )
        return placed


def pinned_memory(device: int) -> Cuda | None:
    """What gives memory that the GPU fetches by itself; None where no package of CUDA's is there.

    The numbers are the same without it, and large tensors take longer to get there.
    """
    try:
        return open_cuda(device)
    except LoadError as exc:
        log.info("tensors are copied from ordinary memory: %s", exc.message)
        return None


def placement(session: Any) -> tuple[Counter[str], Counter[str]] | None:
    """How many nodes of each operator run on the GPU, and on the CPU.

    None where the package is too old to tell (before 1.24).
    """
    ask = getattr(session, "get_provider_graph_assignment_info", None)
    if ask is None:
        return None
    gpu: Counter[str] = Counter()
    cpu: Counter[str] = Counter()
    for part in ask():
        side = gpu if part.ep_name == CUDA else cpu
        side.update(node.op_type for node in part.get_nodes())
    return gpu, cpu


def _words(kinds: Counter[str]) -> str:
    named = [f"{count} {kind}" for kind, count in kinds.most_common(_NAMED)]
    return ", ".join([*named, "…"] if len(kinds) > _NAMED else named)


def _problem(backend: Any) -> str:
    """Why this package cannot use a GPU here; empty when it can."""
    if CUDA not in backend.get_available_providers():
        return f"onnxruntime {backend.__version__} was built without CUDA; {_INSTALL}"
    if problem := driver_problem():
        return problem
    folder = Path(backend.__file__).parent / "capi"
    problem = library_problem(folder)
    preload = getattr(backend, "preload_dlls", None)
    if problem and preload is not None:
        # Finds CUDA in the packages that pip installed; it prints what it does not find.
        preload()
        problem = library_problem(folder)
    return problem


def library_problem(folder: Path) -> str:
    """Whether the provider's library loads; the linker's words when it does not."""
    for name, mode in ((_SHARED, ctypes.RTLD_GLOBAL), (_LIBRARY, ctypes.RTLD_LOCAL)):
        if not (folder / name).is_file():
            return f"onnxruntime has no {name}; {_INSTALL}"
        try:
            ctypes.CDLL(str(folder / name), mode)
        except OSError as exc:
            return f"{name} does not load ({clean(exc)}); {_INSTALL}"
    return ""
