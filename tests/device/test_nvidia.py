from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edged.device.nvidia import parse_driver, read_nvidia
from tests.fakes import sysfs
from tests.fakes.nvml import FakeNvml


def absent(name: str) -> Any:
    raise OSError(f"{name}: cannot open shared object file")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 2024", "550.54.14"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.00  Release Build",
            "580.00",
        ),
        ("GCC version: 12.2.0", None),
        ("", None),
    ],
)
def test_parse_driver(text: str, version: str | None):
    assert parse_driver(text) == version


def test_no_driver_asks_no_library(tmp_path: Path):
    info = read_nvidia(tmp_path, open_library=lambda _name: pytest.fail("opened"))
    assert info.driver is None
    assert info.nodes == info.gpus == ()
    assert info.problem == "no NVIDIA driver is loaded"


def test_driver_without_library(tmp_path: Path):
    info = read_nvidia(sysfs.unpack(sysfs.PC_WITH_GPU, tmp_path), open_library=absent)
    assert info.driver == "550.54.14"
    assert info.nodes == (
        "/dev/nvidia0", "/dev/nvidia2", "/dev/nvidia10", "/dev/nvidiactl", "/dev/nvidia-uvm",
    )  # fmt: skip
    assert "not installed" in info.problem


def test_gpus(tmp_path: Path):
    library = FakeNvml(count=2)
    root = sysfs.unpack(sysfs.PC_WITH_GPU, tmp_path)
    info = read_nvidia(root, open_library=lambda _name: library)
    first, second = info.gpus
    assert (first.index, second.index, info.problem) == (0, 1, "")
    assert first.uuid == "GPU-1234"
    assert first.compute_capability == "8.7"
    assert (first.memory_total_bytes, first.memory_used_bytes) == (8 << 30, 2 << 30)
    assert (first.load, first.temp_celsius, first.power_watts) == (0.37, 55.0, 71.5)
    assert library.open == 0, "NVML is closed again"


def test_orin_lists_a_gpu_and_answers_nothing(tmp_path: Path):
    library = FakeNvml(supported=False)
    root = sysfs.unpack(sysfs.PC_WITH_GPU, tmp_path)
    (gpu,) = read_nvidia(root, open_library=lambda _name: library).gpus
    assert gpu.name == "Orin (nvgpu)"
    assert (gpu.memory_total_bytes, gpu.load, gpu.temp_celsius, gpu.power_watts) == (None,) * 4


def test_nvml_that_does_not_start(tmp_path: Path):
    library = FakeNvml(init_status=9)
    root = sysfs.unpack(sysfs.PC_WITH_GPU, tmp_path)
    info = read_nvidia(root, open_library=lambda _name: library)
    assert info.gpus == ()
    assert "status 9" in info.problem
    assert library.open == 0


def test_nvml_too_old_for_a_call(tmp_path: Path):
    root = sysfs.unpack(sysfs.PC_WITH_GPU, tmp_path)
    info = read_nvidia(root, open_library=lambda _name: object())
    assert info.gpus == ()
    assert "nvmlInit_v2" in info.problem


def test_this_machine_never_raises():
    info = read_nvidia()
    assert info.gpus or info.problem


@pytest.mark.gpu
def test_real_gpu():
    info = read_nvidia()
    assert info.driver
    assert info.gpus[0].memory_total_bytes
