"""What each of OpenVINO's devices is told, and how one that is not there is told of."""

from __future__ import annotations

import pytest

from edged.runtimes.openvino_device import PRECISION, TARGETS, absence, ids_of, settings
from edged.runtimes.registry import ARTEFACT_KINDS, COMPUTES_IN, DEVICES


def test_the_registry_says_the_same():
    names = [name for name in ARTEFACT_KINDS if name.partition("-")[0] == "openvino"]
    assert list(TARGETS) == names
    for name, target in TARGETS.items():
        assert COMPUTES_IN[name] == target.dtype
        assert DEVICES[name] == target.device.lower()


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_kept_on_disk_and_the_precision_is_told(name: str):
    told = settings(TARGETS[name], 2, 3)
    assert told["CACHE_DIR"] == ""
    assert told[PRECISION] == {"float32": "f32", "float16": "f16"}[TARGETS[name].dtype]
    assert ("NUM_STREAMS" in told) == (name == "openvino")
    if name == "openvino":
        assert (told["NUM_STREAMS"], told["INFERENCE_NUM_THREADS"]) == (3, 6)


def test_which_there_are():
    seen = ["CPU", "GPU.0", "GPU.1", "GPUX"]
    assert ids_of(TARGETS["openvino-gpu"], seen) == ("gpu.0", "gpu.1")
    assert ids_of(TARGETS["openvino-gpu"], ["CPU", "GPU"]) == ("gpu",)
    assert ids_of(TARGETS["openvino-npu"], seen) == ()


def test_one_that_is_not_there():
    words = absence(TARGETS["openvino-gpu"], "2026.4", ["CPU", "NPU"], "libOpenCL.so.1: no file")
    assert words.startswith("openvino 2026.4 sees no GPU here (libOpenCL.so.1: no file); it sees: ")
    assert "it sees: CPU, NPU; install the OpenCL driver" in words
    assert "sees no NPU here; it sees: none; " in absence(TARGETS["openvino-npu"], "1", [], "")
