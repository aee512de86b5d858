"""A TensorRT runtime over a GPU in memory, and engines that are built there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edged.runtimes.base import Artefact
from edged.runtimes.cuda import Cuda
from edged.runtimes.cuda_bindings import CudaBindings
from edged.runtimes.cuda_pycuda import PyCuda
from edged.runtimes.engine import BuildOptions
from edged.runtimes.tensorrt import TensorRtRuntime
from edged.runtimes.tensorrt_api import TensorRt
from edged.runtimes.tensorrt_build import build_engine
from edged.runtimes.tensorrt_session import TensorRtSession
from tests.fakes import tensorrt as fake
from tests.fakes.gpu import FakeBindings, FakeGpu, FakePyCuda
from tests.models import TinyModel


class Stand:
    """The runtime, the GPU under it, and what it is told to build.

    Args:
        release: of TensorRT.
        cuda: which of the two ways to CUDA.
        lanes: most runs at once.
        dla: accelerator cores of the device.
        integrated: whether the GPU shares the machine's memory.
    """

    def __init__(
        self,
        release: str = "10.3",
        cuda: str = "cuda-bindings",
        lanes: int = 2,
        *,
        dla: int = 0,
        integrated: bool = False,
    ) -> None:
        self.gpu = FakeGpu(integrated=integrated)
        module = fake.module(release, self.gpu, dla=dla)
        self.trt = TensorRt(module, "TensorRT", f"{release}.0")
        self.cuda: Cuda = (
            CudaBindings(0, FakeBindings(self.gpu))
            if cuda == "cuda-bindings"
            else PyCuda(0, FakePyCuda(self.gpu))
        )
        self.runtime = TensorRtRuntime(trt=self.trt, cuda=self.cuda, lanes=lanes)

    def artefact(self, model: TinyModel) -> Artefact:
        return Artefact(
            model.name,
            model.data,
            tuple(entry.spec() for entry in model.inputs),
            tuple(entry.spec() for entry in model.outputs),
        )

    def engine(self, model: TinyModel, **options: Any) -> Artefact:
        made = self.artefact(model)
        axes = {"height": (1, 8, 16), "width": (1, 8, 16)}
        wanted = BuildOptions(**{"axes": axes, **options})
        built = build_engine(self.trt, self.runtime.host(), made, wanted)
        return replace(made, data=built.engine.encode())

    def session(self, model: TinyModel, **options: Any) -> TensorRtSession:
        return self.runtime.load(self.engine(model, **options))

    def count(self, *names: str) -> list[int]:
        """How often each call was made."""
        return [self.gpu.calls.count(name) for name in names]
