"""A TensorRT runtime over a GPU in memory, and engines that are built there."""

from __future__ import annotations

from dataclasses import replace

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
    """The runtime, the GPU under it, and what it is told to build."""

    def __init__(self, release: str = "10.3", cuda: str = "cuda-bindings", lanes: int = 2) -> None:
        self.gpu = FakeGpu()
        self.trt = TensorRt(fake.module(release, self.gpu), "TensorRT", f"{release}.0")
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

    def engine(self, model: TinyModel) -> Artefact:
        made = self.artefact(model)
        axes = {"height": (1, 8, 16), "width": (1, 8, 16)}
        built = build_engine(self.trt, self.runtime.host(), made, BuildOptions(axes=axes))
        return replace(made, data=built.engine.encode())

    def session(self, model: TinyModel) -> TensorRtSession:
        return self.runtime.load(self.engine(model))
