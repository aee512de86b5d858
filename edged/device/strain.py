"""Whether the device should be spared work that can wait: it is hot, or short of power.

Decides from the kernel's figures and from what was decided before, so that one degree does not
switch back and forth. What is unknown is no strain.
Source: Documentation/ABI/testing/sysfs-class-thermal and sysfs-class-power; driver-api/thermal.
"""

from __future__ import annotations

from pathlib import Path

from edged.device.jetson import read_rails
from edged.device.sysfs import matching, read_int, read_text, scaled

HOT_CELSIUS = 85.0
"""Where a zone names no temperature of its own: below what any board throttles at, and above what
one reaches by serving alone."""
_BELOW_TRIP = 5.0
"""So far below the temperature at which the kernel slows the device down, it is hot already."""
_CALM = 5.0
"""So much cooler it has to be before it counts as cool again."""
_LOWEST_TRIP = 40.0
"""Trip points below are of fans, or of nothing."""


def read_strain(before: str = "", root: Path = Path("/")) -> str:
    """Why work that can wait should wait; empty when nothing is in the way. Never raises.

    Args:
        before: what was said the last time.
        root: of the file system.
    """
    return _heat(before, root) or _power(root)


def _heat(before: str, root: Path) -> str:
    for zone in matching(root / "sys/class/thermal", "thermal_zone*"):
        celsius = scaled(read_int(zone / "temp"), 1e-3)
        name = read_text(zone / "type")
        if celsius is None or not name:
            continue
        limit = _limit(zone)
        was_hot = before.startswith(f"{name} is ")
        if celsius >= (limit - _CALM if was_hot else limit):
            return f"{name} is {celsius:.0f} °C; it should be below {limit - _CALM:.0f}"
    return ""


def _limit(zone: Path) -> float:
    """The temperature from which a zone counts as hot."""
    for kind in matching(zone, "trip_point_*_type"):
        if read_text(kind) in ("passive", "hot"):
            trip = scaled(read_int(kind.with_name(f"{kind.name[:-5]}_temp")), 1e-3)
            if trip is not None and trip > _LOWEST_TRIP:
                return min(trip - _BELOW_TRIP, HOT_CELSIUS)
    return HOT_CELSIUS


def _power(root: Path) -> str:
    for rail in read_rails(root):
        if rail.is_throttling:
            return f"power rail {rail.name} is over its current"
    supplies = matching(root / "sys/class/power_supply", "*")
    if any(read_int(one / "online") == 1 for one in supplies):
        return ""
    for one in supplies:
        is_battery = read_text(one / "type") in ("Battery", "UPS")
        if is_battery and read_text(one / "status") == "Discharging":
            return "it runs on battery"
    return ""
