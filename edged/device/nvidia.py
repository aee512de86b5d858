"""What the NVIDIA driver says: its version, its device nodes, and each GPU as NVML knows it.

NVML is the driver's own library, called through ctypes and only where it loads. It is opened and
closed within one read, in the process that reads: its state does not survive a fork. Every query
may be "not supported" (on Orin all are), and then that one figure is unknown. Never raises.
Source: the NVML API reference.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edged.device.sysfs import matching, read_text, scaled

LIBRARY = "libnvidia-ml.so.1"
NODES = ("nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "nvmap", "nvhost-gpu", "nvgpu")
_TEMPERATURE_GPU = 0
_MOST_GPUS = 64


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU; None for what its driver does not tell."""

    index: int
    name: str | None
    uuid: str | None
    compute_capability: str | None
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    load: float | None
    temp_celsius: float | None
    power_watts: float | None


@dataclass(frozen=True, slots=True)
class NvidiaInfo:
    """The driver and its GPUs.

    Args:
        driver: version of the kernel driver; None when it is not loaded.
        nodes: device files that are there, e.g. ``/dev/nvidia0``.
        gpus: one entry for each GPU that NVML lists.
        problem: why NVML could not be asked; empty when it was.
    """

    driver: str | None
    nodes: tuple[str, ...]
    gpus: tuple[Gpu, ...]
    problem: str = ""


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


def read_nvidia(
    root: Path = Path("/"), *, open_library: Callable[[str], Any] = ctypes.CDLL
) -> NvidiaInfo:
    """Read the figures of one moment. Never raises.

    Args:
        root: where /proc and /dev are looked for.
        open_library: how NVML is opened; raises OSError where it is not there.
    """
    driver = parse_driver(read_text(root / "proc/driver/nvidia/version") or "")
    names = [node.name for pattern in NODES for node in matching(root / "dev", pattern)]
    nodes = tuple(f"/dev/{name}" for name in names)
    if driver is None and not nodes:
        return NvidiaInfo(driver, nodes, (), "no NVIDIA driver is loaded")
    try:
        library = open_library(LIBRARY)
    except OSError:
        return NvidiaInfo(driver, nodes, (), f"{LIBRARY} is not installed")
    try:
        return _ask(library, driver, nodes)
    except (AttributeError, ctypes.ArgumentError) as exc:  # an NVML too old for a call made here
        return NvidiaInfo(driver, nodes, (), f"NVML: {exc}")


def parse_driver(text: str) -> str | None:
    """The version in ``NVRM version: NVIDIA UNIX … Kernel Module …  550.54.14  …``."""
    match = re.search(
        r"^NVRM version:.*?\s([0-9]{2,4}\.[0-9]+(?:\.[0-9]+)*)\s", text + "\n", re.MULTILINE
    )
    return match[1] if match else None


def _ask(library: Any, driver: str | None, nodes: tuple[str, ...]) -> NvidiaInfo:
    status = library.nvmlInit_v2()
    if status != 0:
        return NvidiaInfo(driver, nodes, (), f"NVML did not start (status {status})")
    try:
        count = ctypes.c_uint()
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return NvidiaInfo(driver, nodes, (), "NVML does not tell the number of GPUs")
        gpus = tuple(_gpu(library, index) for index in range(min(count.value, _MOST_GPUS)))
        return NvidiaInfo(driver, nodes, gpus)
    finally:
        library.nvmlShutdown()


def _gpu(library: Any, index: int) -> Gpu:
    handle = ctypes.c_void_p()
    if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) != 0:
        return Gpu(index, None, None, None, None, None, None, None, None)

    def number(call: str, *before: Any) -> int | None:
        value = ctypes.c_uint()
        status = getattr(library, call)(handle, *before, ctypes.byref(value))
        return value.value if status == 0 else None

    memory, busy = _Memory(), _Utilization()
    has_memory = library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0
    has_load = library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(busy)) == 0
    return Gpu(
        index=index,
        name=_text(library.nvmlDeviceGetName, handle),
        uuid=_text(library.nvmlDeviceGetUUID, handle),
        compute_capability=_capability(library, handle),
        memory_total_bytes=int(memory.total) if has_memory else None,
        memory_used_bytes=int(memory.used) if has_memory else None,
        load=busy.gpu / 100 if has_load else None,
        temp_celsius=scaled(
            number("nvmlDeviceGetTemperature", ctypes.c_int(_TEMPERATURE_GPU)), 1.0
        ),
        power_watts=scaled(number("nvmlDeviceGetPowerUsage"), 1e-3),
    )


def _text(call: Callable[..., int], handle: ctypes.c_void_p) -> str | None:
    buffer = ctypes.create_string_buffer(96)  # NVML_DEVICE_NAME_V2_BUFFER_SIZE; a UUID needs 80
    status = call(handle, buffer, ctypes.c_uint(len(buffer)))
    return buffer.value.decode("utf-8", "replace") if status == 0 else None


def _capability(library: Any, handle: ctypes.c_void_p) -> str | None:
    major, minor = ctypes.c_int(), ctypes.c_int()
    call = library.nvmlDeviceGetCudaComputeCapability
    status = call(handle, ctypes.byref(major), ctypes.byref(minor))
    return f"{major.value}.{minor.value}" if status == 0 else None
