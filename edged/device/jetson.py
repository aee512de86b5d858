"""What a Jetson says about itself: release, GPU load and clock, power rails, heat, power mode.

Read-only and without root: everything comes from /sys, /proc and two files of nvpmodel; engine
clocks that live in debugfs stay unknown. The GPU's node may appear after the daemon at boot, so
nothing is remembered between two reads.
Source: kernel Documentation/hwmon/ina3221 and driver-api/thermal; the L4T release file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edged.device.cpu import ThermalZone, read_zones
from edged.device.sysfs import first_int, matching, read_int, read_text, scaled

GPU_LOAD = (
    ("sys/class/devfreq", "*.gpu/device/load"),
    ("sys/devices/platform", "*.gpu/load"),
    ("sys/devices/platform/bus@0", "*.gpu/load"),
    ("sys/devices", "gpu.0/load"),
)
"""Where the load (per mille) has been found, newest boards first."""
GPU_CLOCK = ("*.gpu", "gpu-gpc-0", "*.gv11b", "*.gp10b")
"""Names of the GPU below /sys/class/devfreq: Orin, Thor, Xavier, TX2."""


@dataclass(frozen=True, slots=True)
class PowerRail:
    """One channel of a power monitor."""

    name: str
    voltage_volts: float | None
    current_amperes: float | None
    is_throttling: bool | None

    @property
    def power_watts(self) -> float | None:
        """Voltage times current."""
        if self.voltage_volts is None or self.current_amperes is None:
            return None
        return self.voltage_volts * self.current_amperes


@dataclass(frozen=True, slots=True)
class JetsonInfo:
    """A Jetson at one moment.

    Args:
        model: the board's name in the device tree.
        l4t: release of the board support package, e.g. ``36.4.3``.
        gpu_load: busy share of the GPU, 0 to 1; None where only NVML knows it (Thor).
        gpu_frequency_hz: the GPU's clock now.
        gpu_frequency_max_hz: the highest that the power mode allows.
        rails: power monitor channels.
        zones: temperatures.
        power_mode: nvpmodel's name of the mode, or its number where the name is unknown.
    """

    model: str | None
    l4t: str | None
    gpu_load: float | None
    gpu_frequency_hz: int | None
    gpu_frequency_max_hz: int | None
    rails: tuple[PowerRail, ...]
    zones: tuple[ThermalZone, ...]
    power_mode: str | None


def read_jetson(root: Path = Path("/")) -> JetsonInfo | None:
    """Read the figures of one moment; None when this is no Jetson. Never raises."""
    l4t = parse_l4t(read_text(root / "etc/nv_tegra_release") or "")
    model = read_text(root / "proc/device-tree/model")
    compatible = read_text(root / "proc/device-tree/compatible") or ""
    if l4t is None and "nvidia,tegra" not in compatible:
        return None
    return JetsonInfo(
        model=model,
        l4t=l4t,
        gpu_load=_gpu_load(root),
        gpu_frequency_hz=first_int(_clock_files(root, "cur_freq")),
        gpu_frequency_max_hz=first_int(_clock_files(root, "max_freq")),
        rails=read_rails(root),
        zones=read_zones(root),
        power_mode=_power_mode(root),
    )


def parse_l4t(text: str) -> str | None:
    """``# R36 (release), REVISION: 4.3, …`` → ``36.4.3``."""
    match = re.match(r"# R([0-9]{1,3}) \(release\), REVISION: ([0-9.]{1,12})", text)
    return f"{match[1]}.{match[2].rstrip('.')}" if match else None


def read_rails(root: Path) -> tuple[PowerRail, ...]:
    """The labelled channels of every INA3221 (millivolts and milliamperes in the files)."""
    return tuple(
        _rail(chip, label.name.removeprefix("in").removesuffix("_label"), name)
        for chip in matching(root / "sys/class/hwmon", "hwmon*")
        if read_text(chip / "name") == "ina3221"
        for label in matching(chip, "in*_label")
        if (name := read_text(label)) and name not in ("NC", "sum of shunt voltages")
    )


def _rail(chip: Path, channel: str, name: str) -> PowerRail:
    alarms = [read_int(chip / f"curr{channel}_{kind}_alarm") for kind in ("max", "crit")]
    known = [alarm for alarm in alarms if alarm is not None]
    return PowerRail(
        name=name,
        voltage_volts=scaled(read_int(chip / f"in{channel}_input"), 1e-3),
        current_amperes=scaled(read_int(chip / f"curr{channel}_input"), 1e-3),
        is_throttling=any(known) if known else None,
    )


def _gpu_load(root: Path) -> float | None:
    files = [file for folder, pattern in GPU_LOAD for file in matching(root / folder, pattern)]
    return scaled(first_int(files), 1e-3)


def _clock_files(root: Path, name: str) -> list[Path]:
    folder = root / "sys/class/devfreq"
    return [node / name for pattern in GPU_CLOCK for node in matching(folder, pattern)]


def _power_mode(root: Path) -> str | None:
    status = read_text(root / "var/lib/nvpmodel/status") or ""
    match = re.search(r"pmode:([0-9]{1,6})", status)
    if match is None:
        return None
    number = int(match[1])
    names = read_text(root / "etc/nvpmodel.conf") or ""
    named = re.search(rf"^< *POWER_MODEL +ID={number} +NAME=(\S+) *>", names, re.MULTILINE)
    return named[1] if named else str(number)
