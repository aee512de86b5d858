from __future__ import annotations

from pathlib import Path

import pytest

from edged.device.cpu import ThermalZone, count_cpus, read_cpu
from tests.fakes import sysfs


@pytest.mark.parametrize(
    ("text", "cores"),
    [("0", 1), ("0-3", 4), ("0-3,6", 5), ("0,2,4-5", 4), ("", None), ("0-", None), ("a", None)],
)
def test_count_cpus(text: str, cores: int | None):
    assert count_cpus(text) == cores


def test_jetson(tmp_path: Path):
    info = read_cpu(sysfs.unpack(sysfs.JETSON_ORIN, tmp_path))
    assert info.cores == 5
    assert info.frequency_hz == 1_510_400_000
    assert info.features == ("asimd", "asimddp", "asimdhp")
    assert info.memory_total_bytes == 7_990_000 * 1024
    assert info.memory_available_bytes == 5_000_000 * 1024
    assert info.load_1min == 0.52


def test_zones_keep_the_kernels_order_and_a_sleeping_block_is_unknown(tmp_path: Path):
    info = read_cpu(sysfs.unpack(sysfs.JETSON_ORIN, tmp_path))
    assert info.zones == (
        ThermalZone("cpu-thermal", pytest.approx(48.312)),
        ThermalZone("cv0-thermal", None),
        ThermalZone("tj-thermal", pytest.approx(-1.5)),
    )


def test_pc(tmp_path: Path):
    info = read_cpu(sysfs.unpack(sysfs.PC_WITH_GPU, tmp_path))
    assert info.model == "Fast(R) CPU @ 3.00GHz"
    assert info.features == ("avx2", "avx512f")
    assert info.swap_total_bytes == 0, "a known zero"
    assert info.frequency_hz is None


def test_nothing_known_is_none_and_never_zero(tmp_path: Path):
    info = read_cpu(sysfs.unpack(sysfs.EMPTY, tmp_path))
    known = (info.model, info.cores, info.frequency_hz, info.load_1min, info.memory_total_bytes)
    assert known == (None,) * 5
    assert info.memory_available_bytes is info.swap_total_bytes is None
    assert info.zones == ()


def test_this_machine():
    info = read_cpu()
    assert info.cores
    assert info.memory_total_bytes
    assert info.memory_available_bytes
    assert info.memory_available_bytes <= info.memory_total_bytes
