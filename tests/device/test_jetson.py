from __future__ import annotations

from pathlib import Path

import pytest

from edged.device.jetson import parse_l4t, read_jetson
from tests.fakes import sysfs


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 1", "36.4.3"),
        ("# R38 (release), REVISION: 2.0, GCID: 1", "38.2.0"),
        ("# R35 (release), REVISION: 1", "35.1"),
        ("R36", None),
        ("", None),
    ],
)
def test_parse_l4t(text: str, release: str | None):
    assert parse_l4t(text) == release


def test_orin(tmp_path: Path):
    info = read_jetson(sysfs.unpack(sysfs.JETSON_ORIN, tmp_path))
    assert info is not None
    assert info.model == "NVIDIA Jetson Orin Nano Developer Kit"
    assert info.l4t == "36.4.3"
    assert info.gpu_load == pytest.approx(0.423)
    assert info.gpu_frequency_hz == 306_000_000
    assert info.gpu_frequency_max_hz == 624_750_000
    assert info.power_mode == "7W"
    assert [zone.name for zone in info.zones] == ["cpu-thermal", "cv0-thermal", "tj-thermal"]


def test_rails(tmp_path: Path):
    info = read_jetson(sysfs.unpack(sysfs.JETSON_ORIN, tmp_path))
    assert info is not None
    whole, soc = info.rails
    assert (whole.name, soc.name) == ("VDD_IN", "VDD_SOC")
    assert whole.power_watts == pytest.approx(5.016 * 0.944)
    assert whole.is_throttling is True
    assert (soc.current_amperes, soc.power_watts, soc.is_throttling) == (None, None, None)


@pytest.mark.parametrize("tree", [sysfs.PC_WITH_GPU, sysfs.EMPTY], ids=["pc", "empty"])
def test_no_jetson(tmp_path: Path, tree: dict[str, str]):
    assert read_jetson(sysfs.unpack(tree, tmp_path)) is None


def test_board_without_anything_else_is_all_unknown(tmp_path: Path):
    root = sysfs.unpack({"proc/device-tree/compatible": "nvidia,tegra264\x00"}, tmp_path)
    info = read_jetson(root)
    assert info is not None
    assert (info.model, info.l4t, info.gpu_load, info.gpu_frequency_hz) == (None,) * 4
    assert (info.rails, info.zones, info.power_mode) == ((), (), None)


def test_thor_has_its_own_clock_node_and_no_load(tmp_path: Path):
    root = sysfs.unpack(
        {
            "etc/nv_tegra_release": "# R38 (release), REVISION: 2.0\n",
            "sys/class/devfreq/gpu-gpc-0/cur_freq": "1575000000\n",
        },
        tmp_path,
    )
    info = read_jetson(root)
    assert info is not None
    assert info.gpu_frequency_hz == 1_575_000_000
    assert info.gpu_load is None


def test_node_that_appears_later_is_found(tmp_path: Path):
    root = sysfs.unpack({"etc/nv_tegra_release": "# R36 (release), REVISION: 4.3\n"}, tmp_path)
    before = read_jetson(root)
    sysfs.unpack({"sys/class/devfreq/17000000.gpu/device/load": "0\n"}, tmp_path)
    after = read_jetson(root)
    assert before is not None
    assert after is not None
    assert (before.gpu_load, after.gpu_load) == (None, 0.0)


@pytest.mark.parametrize(
    ("status", "mode"), [("pmode:0000\n", "15W"), ("pmode:0009\n", "9"), ("other\n", None)]
)
def test_power_mode(tmp_path: Path, status: str, mode: str | None):
    tree = {**sysfs.JETSON_ORIN, "var/lib/nvpmodel/status": status}
    info = read_jetson(sysfs.unpack(tree, tmp_path))
    assert info is not None
    assert info.power_mode == mode
