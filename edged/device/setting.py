"""What a measured time depends on beside the model, in one line: processor, cores, power mode."""

from __future__ import annotations

from pathlib import Path

from edged.device.cpu import read_cpu
from edged.device.jetson import read_jetson
from edged.system.cores import usable

_CAP = 200


def device_setting(root: Path = Path("/")) -> str:
    """Name the device as it is set now, e.g. ``ARMv8, 4 cores, 15W``. Never raises."""
    cpu, jetson = read_cpu(root), read_jetson(root)
    board = jetson.model if jetson is not None else None
    parts = [board or cpu.model or cpu.architecture, f"{len(usable())} cores"]
    if jetson is not None and jetson.power_mode:
        parts.append(jetson.power_mode)
    return ", ".join(parts)[:_CAP]
