"""A stand-in for NVML with its calling convention: results through pointers, a status returned."""

from __future__ import annotations

import ctypes
from typing import Any

NOT_SUPPORTED = 3


class FakeNvml:
    """Lists ``count`` GPUs; with ``supported`` False every query answers NOT_SUPPORTED (Orin)."""

    def __init__(self, count: int = 1, *, supported: bool = True, init_status: int = 0) -> None:
        self.count = count
        self.supported = supported
        self.init_status = init_status
        self.open = 0

    def nvmlInit_v2(self) -> int:  # noqa: N802 - the library's name
        self.open += self.init_status == 0
        return self.init_status

    def nvmlShutdown(self) -> int:  # noqa: N802
        self.open -= 1
        return 0

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvmlDevice"):
            raise AttributeError(name)
        return lambda *arguments: self._answer(name, arguments)

    def _answer(self, name: str, arguments: tuple[Any, ...]) -> int:
        out = getattr(arguments[-1], "_obj", None)
        if name == "nvmlDeviceGetCount_v2":
            out.value = self.count
        elif name == "nvmlDeviceGetHandleByIndex_v2":
            out.value = 0x1000 + arguments[0].value
        elif name == "nvmlDeviceGetName":
            arguments[1].value = b"Orin (nvgpu)"
        elif not self.supported:
            return NOT_SUPPORTED
        elif name == "nvmlDeviceGetUUID":
            arguments[1].value = b"GPU-1234"
        elif name == "nvmlDeviceGetMemoryInfo":
            out.total, out.used = 8 << 30, 2 << 30
        elif name == "nvmlDeviceGetUtilizationRates":
            out.gpu = 37
        elif name == "nvmlDeviceGetTemperature":
            out.value = 55
        elif name == "nvmlDeviceGetPowerUsage":
            out.value = 71500
        elif name == "nvmlDeviceGetCudaComputeCapability":
            ctypes.c_int.from_address(ctypes.addressof(arguments[1]._obj)).value = 8
            out.value = 7
        return 0
