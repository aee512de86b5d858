"""ONNX Runtime's TensorRT provider: parts of a model that TensorRT takes, the rest through CUDA.

Decides what the provider is told, and whether a session really got it. Where the package, TensorRT
or a driver is missing, or the provider did not take a single node, loading is refused in words, and
the next runtime of the model's list takes over.

The provider's own caches are off, the one of engines and the one of timings: it would deserialise
whatever lies in that folder, and nothing is deserialised here that is not signed or sealed. So
every load builds its engines anew, from the verified model, on the loader's thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edged.errors import LoadError
from edged.resident import on_host
from edged.runtimes.base import Artefact
from edged.runtimes.onnx_types import FLOAT16, weight_types
from edged.runtimes.onnxruntime import CPU, Placement
from edged.runtimes.onnxruntime_cuda import CUDA, OnnxCudaRuntime, nodes_by_provider, words_of
from edged.runtimes.onnxruntime_device import OnnxDeviceSession, Place
from edged.runtimes.onnxruntime_lanes import Pins
from edged.tensors import Array, TensorSpec

log = logging.getLogger("edged.runtimes")

TENSORRT = "TensorrtExecutionProvider"
_WORKSPACE_BYTES = 1 << 30
"""What a layer may use besides its tensors; a quarter of the smallest Jetson."""
_MOST_PARTS = 100
"""Attempts at cutting a model between TensorRT and CUDA, a tenth of the package's own bound: a load
must end, and a model in so many pieces has no use for TensorRT."""
MOST_ROWS, _USUAL_ROWS = 32, 8
"""Of an engine: ``max_batch`` as it is by itself, and what it is made fastest for."""
_FROM_PIP = ("libnvinfer.so.*", "libnvinfer_plugin.so.*", "libnvonnxparser.so.*")
"""In the order in which they need each other."""


class OnnxTensorRtRuntime(OnnxCudaRuntime):
    """Loads ONNX files with TensorRT first, on one GPU.

    Args:
        threads: for nodes that stay on the CPU; 0 for one a core this process may use.
        device: which GPU, as CUDA counts.
    """

    name = "onnxruntime-tensorrt"
    provider = TENSORRT
    library = "libonnxruntime_providers_tensorrt.so"
    needs = "TensorRT of the release that it was made for, and the CUDA and cuDNN"

    def _preload(self, backend: Any) -> None:
        super()._preload(backend)
        spec = importlib.util.find_spec("tensorrt_libs")
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for pattern in _FROM_PIP:
                for path in sorted(Path(folder).glob(pattern)):
                    with contextlib.suppress(OSError):  # the linker says it again, in our words
                        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)

    def providers(self, artefact: Artefact) -> list[Any]:
        """TensorRT, and for the rest as without it; LoadError where it could build nothing."""
        return [(TENSORRT, self._settings(artefact)), *super().providers(artefact)]

    def _settings(self, artefact: Artefact) -> dict[str, str]:
        settings = {
            "device_id": str(self._device),
            "trt_max_workspace_size": str(_WORKSPACE_BYTES),
            "trt_max_partition_iterations": str(_MOST_PARTS),
            # One at a time: each takes a workspace.
            "trt_force_sequential_engine_build": "True",
            # Only what the file says: TensorRT may otherwise round where golden samples did not.
            "trt_fp16_enable": str(FLOAT16 in weight_types(artefact.data)),
            "trt_int8_enable": str(b"QuantizeLinear" in artefact.data),
            "trt_engine_cache_enable": "False",
            "trt_timing_cache_enable": "False",
            "trt_dump_ep_context_model": "False",
        }
        return settings | profile(f'model "{artefact.model}"', artefact.inputs)

    def _placement(self, where: str, session: Any) -> Placement | None:
        self._check_providers(where, session)
        nodes = nodes_by_provider(session)
        if nodes is None:
            return None
        none: Counter[str] = Counter()
        ours, gpu, cpu = (nodes.get(name, none) for name in (TENSORRT, CUDA, CPU))
        if not ours:
            raise LoadError(
                f"{where}: TensorRT took none of its {(gpu + cpu).total()} nodes "
                f"({words_of(gpu + cpu)}); name the runtime onnxruntime-cuda for it"
            )
        if others := gpu + cpu:
            log.warning(
                "%s: TensorRT left %d of %d nodes to others, %d of them to the CPU: %s",
                *(where, others.total(), (ours + others).total(), cpu.total(), words_of(others)),
            )
        return ours + gpu, cpu

    def _session(
        self, session: Any, artefact: Artefact, placed: Placement | None, run_options: Any
    ) -> OnnxTensorRtSession:
        return OnnxTensorRtSession(
            session, artefact, placed, run_options, self.place, pins=self._pins()
        )


def profile(where: str, inputs: tuple[TensorSpec, ...]) -> dict[str, str]:
    """For which shapes engines are built: 1 to 32 rows; nothing where all lengths are fixed.

    Without it the provider would build one anew, in a request, for each new length.

    Raises:
        LoadError: an axis other than the rows has no length.
    """
    for spec in inputs:
        free = [axis for axis in spec.shape[spec.is_batched :] if isinstance(axis, str)]
        if free:
            raise LoadError(
                f'{where}: input "{spec.name}" has a free axis "{free[0]}" besides its rows, for '
                "whose lengths no engine could be built; name the runtime onnxruntime-cuda for it"
            )
    batched = [spec for spec in inputs if spec.is_batched]
    if not batched:
        return {}

    def shapes(rows: int) -> str:
        sizes = ((spec.name, "x".join(map(str, (rows, *spec.shape[1:])))) for spec in batched)
        return ",".join(f"{name}:{size}" for name, size in sizes)

    return {
        "trt_profile_min_shapes": shapes(1),
        "trt_profile_opt_shapes": shapes(_USUAL_ROWS),
        "trt_profile_max_shapes": shapes(MOST_ROWS),
    }


class OnnxTensorRtSession(OnnxDeviceSession):
    """One whose engines take so many rows and no more; what has more runs in parts.

    Args:
        session: the backend's.
        artefact: what it was loaded from.
        placed: as for ``OnnxSession``.
        options: likewise.
        device: where its tensors lie.
        pins: as for ``OnnxDeviceSession``.
    """

    def __init__(
        self,
        session: Any,
        artefact: Artefact,
        placed: Placement | None,
        options: Any,
        device: Place,
        *,
        pins: Pins | None = None,
    ) -> None:
        super().__init__(session, artefact, placed, options, device, pins=pins)
        specs = (*artefact.inputs, *artefact.outputs)
        self._batched = {spec.name for spec in artefact.inputs if spec.is_batched}
        self._is_row_wise = all(spec.is_batched for spec in specs)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch; see ``OnnxDeviceSession.run``."""
        rows = max((len(inputs[n]) for n in self._batched if _has_rows(inputs.get(n))), default=0)
        if rows <= MOST_ROWS:
            return super().run(inputs)
        if not self._is_row_wise:
            raise self._failed(f"its engines take {MOST_ROWS} rows at most, not {rows}")
        made = []
        for start in range(0, rows, MOST_ROWS):
            part = {name: array[start : start + MOST_ROWS] for name, array in inputs.items()}
            made.append(on_host(super().run(part)))
        return {name: np.concatenate([one[name] for one in made]) for name in made[0]}


def _has_rows(array: Array | None) -> bool:
    return array is not None and array.ndim > 0
