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
from edged.runtimes.cuda import driver_problem, open_cuda
from edged.runtimes.onnxruntime import OnnxRuntime, Placement, backend_module, clean
from edged.runtimes.onnxruntime_device import OnnxDeviceSession, Place
from edged.runtimes.onnxruntime_lanes import Pins

log = logging.getLogger("edged.runtimes")

CUDA = "CUDAExecutionProvider"
_INSTALL = 'pip install "edged[gpu]" in place of edged[cpu], with'
_SHARED = "libonnxruntime_providers_shared.so"
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
    provider = CUDA
    library = "libonnxruntime_providers_cuda.so"
    needs = "the CUDA and cuDNN it was made for"

    def __init__(self, *, threads: int, device: int = 0) -> None:
        super().__init__(threads=threads)
        self._device = device
        self.place = Place("cuda", device)

    @property
    def _install(self) -> str:
        return f"{_INSTALL} {self.needs}"

    @property
    def _title(self) -> str:
        return self.provider.removesuffix("ExecutionProvider")

    def info(self) -> RuntimeInfo:
        """Say whether the package, its CUDA libraries, a driver and a GPU are there."""
        found = super().info()
        problem = found.problem or self._problem(backend_module())
        if problem:
            return RuntimeInfo(self.name, "", (), problem)
        return RuntimeInfo(self.name, found.version, (f"cuda:{self._device}",))

    def _options(self, backend: Any, artefact: Artefact) -> Any:
        options = super()._options(backend, artefact)
        options.add_session_config_entry(_RECORD, "1")
        return options

    def providers(self, artefact: Artefact) -> list[Any]:
        """CUDA, and the CPU for what it has no operators for."""
        settings = {
            "device_id": str(self._device),
            # Memory grows by what is asked for, not to the next power of two: others live here too.
            "arena_extend_strategy": "kSameAsRequested",
            # The default measures every algorithm again for each new batch size, in a request.
            "cudnn_conv_algo_search": "HEURISTIC",
            "use_tf32": "0",
        }
        return [(CUDA, settings), *super().providers(artefact)]

    def _session(
        self, session: Any, artefact: Artefact, placed: Placement | None, run_options: Any
    ) -> OnnxDeviceSession:
        return OnnxDeviceSession(
            session, artefact, placed, run_options, self.place, pins=self._pins()
        )

    def _pins(self) -> Pins | None:
        """What gives memory that the GPU fetches by itself; None where CUDA's package is not there.

        The numbers are the same without it, and large tensors take longer to get there.
        """
        try:
            return open_cuda(self._device)
        except LoadError as exc:
            log.info("tensors are copied from ordinary memory: %s", exc.message)
            return None

    def _check_providers(self, where: str, session: Any) -> None:
        """Raise LoadError for a session that did not get what was asked for."""
        got = session.get_providers()
        if self.provider not in got:
            reason = self._problem(backend_module()) or "it does not say why"
            raise LoadError(
                f"{where}: onnxruntime gave {', '.join(got)} and no {self._title}: {reason}"
            )

    def _problem(self, backend: Any) -> str:
        """Why this package cannot use its provider here; empty when it can."""
        if self.provider not in backend.get_available_providers():
            return (
                f"onnxruntime {backend.__version__} was built without {self._title}; "
                f"{self._install}"
            )
        if problem := driver_problem():
            return problem
        folder = Path(backend.__file__).parent / "capi"
        problem = library_problem(folder, self.library)
        if problem:
            self._preload(backend)
            problem = library_problem(folder, self.library)
        return f"{problem}; {self._install}" if problem else ""

    def _preload(self, backend: Any) -> None:
        """Find the libraries in the packages that pip installed; prints what it does not find."""
        preload = getattr(backend, "preload_dlls", None)
        if preload is not None:
            preload()

    def _placement(self, where: str, session: Any) -> Placement | None:
        self._check_providers(where, session)
        placed = placement(session)
        if placed is None:
            return None
        gpu, cpu = placed
        if not gpu:
            raise LoadError(
                f"{where}: none of its {sum(cpu.values())} nodes runs on the GPU "
                f"({words_of(cpu)}); name the runtime onnxruntime for it"
            )
        if cpu:
            log.warning(
                "%s: %d of %d nodes run on the CPU: %s",
                *(where, sum(cpu.values()), sum(gpu.values()) + sum(cpu.values()), words_of(cpu)),
            )
        return placed


def nodes_by_provider(session: Any) -> dict[str, Counter[str]] | None:
    """How many nodes of each operator every provider got.

    None where the package is too old to tell (before 1.24), or tells nothing.
    """
    ask = getattr(session, "get_provider_graph_assignment_info", None)
    if ask is None:
        return None
    nodes: dict[str, Counter[str]] = {}
    for part in ask():
        kinds = nodes.setdefault(part.ep_name, Counter())
        kinds.update(node.op_type for node in part.get_nodes())
    return nodes or None


def placement(session: Any) -> tuple[Counter[str], Counter[str]] | None:
    """How many nodes of each operator run on the GPU, and on the CPU; None where nobody tells."""
    nodes = nodes_by_provider(session)
    if nodes is None:
        return None
    gpu = nodes.pop(CUDA, Counter())
    return gpu, sum(nodes.values(), Counter())


def words_of(kinds: Counter[str]) -> str:
    """The commonest of them, for a line of text."""
    named = [f"{count} {kind}" for kind, count in kinds.most_common(_NAMED)]
    return ", ".join([*named, "…"] if len(kinds) > _NAMED else named)


def library_problem(folder: Path, library: str) -> str:
    """Whether a provider's library loads; the linker's words when it does not."""
    for name, mode in ((_SHARED, ctypes.RTLD_GLOBAL), (library, ctypes.RTLD_LOCAL)):
        if not (folder / name).is_file():
            return f"onnxruntime has no {name}"
        try:
            ctypes.CDLL(str(folder / name), mode)
        except OSError as exc:
            return f"{name} does not load ({clean(exc)})"
    return ""
