"""The name under which measured times are kept changes with what changes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edged.device.setting import device_setting
from tests.fakes.sysfs import JETSON_ORIN, PC_WITH_GPU, unpack


@pytest.fixture(autouse=True)
def _six_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))


def test_a_board_and_its_power_mode(tmp_path: Path):
    unpack(JETSON_ORIN, tmp_path)
    assert device_setting(tmp_path) == "NVIDIA Jetson Orin Nano Developer Kit, 6 cores, 7W"
    (tmp_path / "var/lib/nvpmodel/status").write_text("pmode:0000")
    assert device_setting(tmp_path) == "NVIDIA Jetson Orin Nano Developer Kit, 6 cores, 15W"


def test_a_computer(tmp_path: Path):
    unpack(PC_WITH_GPU, tmp_path)
    assert device_setting(tmp_path) == "Fast(R) CPU @ 3.00GHz, 6 cores"


def test_nothing_known(tmp_path: Path):
    assert device_setting(tmp_path).endswith(", 6 cores")


def test_a_kernel_that_says_much(tmp_path: Path):
    unpack({"proc/cpuinfo": "model name : " + "x" * 5000}, tmp_path)
    assert len(device_setting(tmp_path)) == 200


def test_this_machine():
    assert device_setting().endswith(" 6 cores")
