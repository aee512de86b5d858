"""What the kernel says about processor, memory and temperatures. Read-only; unknown is None.

Every function takes the root of the file system, so that tests read a packed fake tree.
Source: proc(5); Documentation/ABI/testing/sysfs-devices-system-cpu and sysfs-class-thermal.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path

from edged.device.sysfs import matching, read_int, read_text, scaled

FEATURES = (
    "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve",
)  # fmt: skip
"""The instruction sets that decide how fast inference kernels are; others are left out."""


@dataclass(frozen=True, slots=True)
class ThermalZone:
    """One temperature; None while its block is powered down."""

    name: str
    temp_celsius: float | None


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """Processor and memory of this machine.

    Args:
        model: what the kernel calls the processor.
        architecture: ``x86_64`` or ``aarch64``.
        cores: processors that are switched on.
        frequency_hz: the highest current frequency of any core.
        features: those of FEATURES that are there.
        load_1min: runnable tasks, averaged over a minute.
        memory_total_bytes: memory the kernel manages.
        memory_available_bytes: what can be had without swapping.
        swap_total_bytes: 0 is a known zero: no swap.
        zones: temperatures by the kernel's names.
    """

    model: str | None
    architecture: str
    cores: int | None
    frequency_hz: int | None
    features: tuple[str, ...]
    load_1min: float | None
    memory_total_bytes: int | None
    memory_available_bytes: int | None
    swap_total_bytes: int | None
    zones: tuple[ThermalZone, ...]


def read_cpu(root: Path = Path("/")) -> CpuInfo:
    """Read the figures of one moment. Never raises."""
    cpuinfo = _colon_table(read_text(root / "proc/cpuinfo") or "")
    memory = _colon_table(read_text(root / "proc/meminfo") or "")
    flags = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
    return CpuInfo(
        model=cpuinfo.get("model name") or cpuinfo.get("Model"),
        architecture=platform.machine(),
        cores=count_cpus(read_text(root / "sys/devices/system/cpu/online") or ""),
        frequency_hz=_frequency_hz(root),
        features=tuple(name for name in FEATURES if name in flags),
        load_1min=_load(read_text(root / "proc/loadavg") or ""),
        memory_total_bytes=_kib(memory.get("MemTotal")),
        memory_available_bytes=_kib(memory.get("MemAvailable")),
        swap_total_bytes=_kib(memory.get("SwapTotal")),
        zones=read_zones(root),
    )


def read_zones(root: Path = Path("/")) -> tuple[ThermalZone, ...]:
    """All thermal zones; the kernel gives thousandths of a degree."""
    return tuple(
        ThermalZone(name, scaled(read_int(zone / "temp"), 1e-3))
        for zone in matching(root / "sys/class/thermal", "thermal_zone*")
        if (name := read_text(zone / "type"))
    )


def count_cpus(ranges: str) -> int | None:
    """``0-3,6`` → 5; None for anything else."""
    if not re.fullmatch(r"[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*", ranges):
        return None
    ends = [part.split("-") for part in ranges.split(",")]
    return sum(int(end[-1]) - int(end[0]) + 1 for end in ends)


def _frequency_hz(root: Path) -> int | None:
    files = matching(root / "sys/devices/system/cpu", "cpu[0-9]*/cpufreq/scaling_cur_freq")
    kilohertz = [value for file in files if (value := read_int(file)) is not None]
    return max(kilohertz) * 1000 if kilohertz else None


def _colon_table(text: str) -> dict[str, str]:
    """``key : value`` lines; the first of a repeated key (the first processor) counts."""
    table: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            table.setdefault(key.strip(), value.strip())
    return table


def _kib(text: str | None) -> int | None:
    match = re.fullmatch(r"([0-9]{1,15}) kB", text or "")
    return int(match[1]) * 1024 if match else None


def _load(text: str) -> float | None:
    match = re.match(r"[0-9]+\.[0-9]+", text)
    return float(match[0]) if match else None
