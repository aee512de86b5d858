"""A folder to import from, in which a child process finds a GPU: driver, CUDA and TensorRT, all fake.

The packages are those of ``gpu.py`` and ``tensorrt.py`` under the names that are really imported.
"""

from __future__ import annotations

from pathlib import Path

from tests.fakes.gpu import FakeBindings, FakeGpu

GPU = FakeGpu()
"""The one of a process."""

_TENSORRT = """
import sys
import numpy as np
from tests.fakes import tensorrt
from tests.fakes.tensorrt_site import GPU
made = tensorrt.module({release!r}, GPU, fault={fault!r})
{extra}
sys.modules[__name__] = made
"""
_RUNTIME = """
import sys
from tests.fakes.tensorrt_site import bindings
sys.modules[__name__] = bindings()
"""
_DRIVER = """
import ctypes
class Driver:
    def cuInit(self, flags):
        return 0
    def cuDeviceGetCount(self, count):
        count._obj.value = 1
        return 0
honest = ctypes.CDLL
ctypes.CDLL = lambda name, *more, **named: (
    Driver() if name == "libcuda.so.1" else honest(name, *more, **named)
)
import edged.runtimes.engine as engine
engine._driver = lambda root: {driver!r}
"""


def bindings() -> FakeBindings:
    """``cuda.bindings.runtime`` of the process's GPU."""
    return FakeBindings(GPU)


def make_site(
    folder: Path,
    *,
    release: str = "10.3",
    fault: str = "",
    extra: str = "",
    driver: str = "580.159",
) -> Path:
    """Write the packages.

    Args:
        folder: to be put into the import path.
        release: of TensorRT.
        fault: see ``tensorrt.Builder``.
        extra: statements that change the package, which is called ``made``.
        driver: the version that the kernel tells.
    """
    (folder / "cuda" / "bindings").mkdir(parents=True)
    for name in ("cuda", "cuda/bindings"):
        (folder / name / "__init__.py").write_text("")
    (folder / "cuda" / "bindings" / "runtime.py").write_text(_RUNTIME)
    text = _TENSORRT.format(release=release, fault=fault, extra=extra)
    (folder / "tensorrt.py").write_text(text)
    (folder / "sitecustomize.py").write_text(_DRIVER.format(driver=driver))
    return folder
