"""Heat and power: said from the kernel's figures, and not from one degree to the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.device.strain import read_strain


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / "sys/class" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def zone(celsius: float, trip: float | None = None, kind: str = "passive") -> dict[str, str]:
    files = {
        "thermal/thermal_zone0/type": "gpu-thermal",
        "thermal/thermal_zone0/temp": f"{celsius * 1000:.0f}",
    }
    if trip is not None:
        files["thermal/thermal_zone0/trip_point_0_type"] = kind
        files["thermal/thermal_zone0/trip_point_0_temp"] = f"{trip * 1000:.0f}"
    return files


def test_nothing_known_is_no_strain(tmp_path):
    assert read_strain(root=tmp_path) == ""
    assert read_strain(root=write(tmp_path, {"thermal/thermal_zone0/type": "gpu"})) == ""


@pytest.mark.parametrize(
    ("celsius", "trip", "kind", "is_hot"),
    [
        (84.9, None, "", False),
        (85.0, None, "", True),
        (69.0, 75.0, "passive", False),
        (70.0, 75.0, "passive", True),
        (70.0, 75.0, "hot", True),
        (84.0, 75.0, "active", False),  # a fan
        (84.0, 0.0, "passive", False),
        (84.0, 120.0, "passive", False),
        (86.0, 120.0, "passive", True),
    ],
)
def test_hot(tmp_path, celsius, trip, kind, is_hot):
    root = write(tmp_path, zone(celsius, trip, kind))
    assert bool(read_strain(root=root)) == is_hot


def test_what_was_hot_has_to_cool_down(tmp_path):
    hot = read_strain(root=write(tmp_path, zone(86)))
    assert hot == "gpu-thermal is 86 °C; it should be below 80"
    assert read_strain(hot, write(tmp_path, zone(80)))
    assert read_strain(hot, write(tmp_path, zone(79.9))) == ""
    assert read_strain("", write(tmp_path, zone(80))) == ""


def supply(name: str, kind: str, **more: str) -> dict[str, str]:
    files = {"type": kind, **more}
    return {f"power_supply/{name}/{key}": text for key, text in files.items()}


def test_on_battery_and_not_while_it_is_charged(tmp_path):
    battery = supply("BAT0", "Battery", status="Discharging")
    assert read_strain(root=write(tmp_path, battery)) == "it runs on battery"
    write(tmp_path, supply("AC", "Mains", online="1"))
    assert read_strain(root=tmp_path) == ""
    write(tmp_path, supply("AC", "Mains", online="0"))
    assert read_strain(root=tmp_path) == "it runs on battery"
    write(tmp_path, supply("BAT0", "Battery", status="Charging"))
    assert read_strain(root=tmp_path) == ""


def test_over_current(tmp_path):
    rail = {
        "hwmon/hwmon0/name": "ina3221",
        "hwmon/hwmon0/in1_label": "VDD_IN",
        "hwmon/hwmon0/curr1_crit_alarm": "1",
    }
    assert read_strain(root=write(tmp_path, rail)) == "power rail VDD_IN is over its current"
    write(tmp_path, {"hwmon/hwmon0/curr1_crit_alarm": "0"})
    assert read_strain(root=tmp_path) == ""
