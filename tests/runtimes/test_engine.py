"""Engine files: read back as written, refused when cut, changed or built elsewhere."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edged.errors import LoadError
from edged.runtimes.cuda import Device
from edged.runtimes.engine import (
    BuildOptions,
    Engine,
    Fingerprint,
    Host,
    Io,
    decode,
    differences,
    host_of,
    is_engine,
    sha256,
)

DEVICE = Device(0, "Orin", "8.7", 16, 8 << 30, True, "12.6", "12.6")
HOST = Host(
    product="TensorRT",
    tensorrt="10.3.0",
    parser="1003",
    system="Linux aarch64",
    compute_capability="8.7",
    gpu="Orin",
    processors=16,
    cuda="12.6",
    driver="540.4.0",
    l4t="36.4.3",
)


def engine(plan: bytes = b"a plan") -> Engine:
    return Engine(
        Fingerprint(
            host=HOST,
            onnx_sha256=sha256(b"onnx"),
            plan_sha256=sha256(plan),
            plan_bytes=len(plan),
            options=BuildOptions(axes={"n": (1, 2, 3)}),
            flags=("FP16",),
            asked={"HALF": 3},
            built={"HALF": 2},
            io=(Io("x", "float32", True, (-1, 3), ((1, 3), (4, 3), (8, 3))),),
            timing_cache_sha256="",
            device_bytes=4096,
            seconds=1.5,
            parity={"y": 1e-6},
        ),
        plan,
    )


def test_there_and_back():
    data = engine().encode()
    assert is_engine(data)
    assert decode(data) == engine()
    assert data == engine().encode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"", "no engine file"),
        (lambda data: b"\x08\x07onnx and more than 16 bytes", "no engine file"),
        (lambda data: data[:12], "no engine file"),
        (lambda data: data[:8] + b"\x02" + data[9:], "has format 2; this edged reads 1"),
        (
            lambda data: data[:12] + b"\xff\xff\xff\xff" + data[16:],
            "cut short: its head has 4294967295",
        ),
        (lambda data: data[:30], "cut short"),
        (lambda data: data[:16] + b"[" + data[17:], "head does not read"),
        (lambda data: data[:-1], "plan has 5 of 6 bytes"),
        (lambda data: data + b"x", "plan has 7 of 6 bytes"),
        (lambda data: data[:-1] + b"x", "another sha256"),
    ],
)
def test_not_whole(change, words: str):
    with pytest.raises(LoadError, match=words):
        decode(change(engine().encode()))


def test_every_part_of_a_host_counts():
    assert not differences(HOST, HOST)
    for name in Host.__struct_fields__:
        other = 99 if name == "processors" else "other"
        (said,) = differences(msgspec.structs.replace(HOST, **{name: other}), HOST)
        assert said.startswith(name.replace("_", " "))
        assert "other" in said or "99" in said
        assert f"(here: {getattr(HOST, name)})" in said


def test_a_host_is_read_from_the_device_and_the_system(tmp_path: Path):
    (tmp_path / "sys/module/nvidia").mkdir(parents=True)
    (tmp_path / "sys/module/nvidia/version").write_text("540.4.0\n")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text(
        "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic\n"
    )
    found = host_of("TensorRT", "10.3.0", "1003", DEVICE, tmp_path)
    assert (found.driver, found.l4t, found.cuda, found.gpu) == ("540.4.0", "36.4.3", "12.6", "Orin")
    assert found.system.startswith("Linux ")


def test_a_host_without_those_files(tmp_path: Path):
    found = host_of("TensorRT", "10.3.0", "1003", DEVICE, tmp_path)
    assert (found.driver, found.l4t) == ("", "")
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    line = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build\n"
    (tmp_path / "proc/driver/nvidia/version").write_text(line)
    assert host_of("TensorRT", "10.3.0", "1003", DEVICE, tmp_path).driver == "580.159.04"
