"""The devices of OpenVINO by the names of our runtimes, and what a model is compiled with for each.

Decides which settings each gets, in what it computes, and how a device that is not there is told.
Knows the package's words and imports nothing of it.

No compiled model is ever kept on disk, by the package or by a driver: it is machine code, and what
loads it checks nothing. A start compiles again, which takes seconds on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

PRECISION = "INFERENCE_PRECISION_HINT"


class Target(NamedTuple):
    """A device.

    Args:
        device: as the package calls it; of several GPUs the first.
        precision: the package's word for what floats are computed in.
        dtype: ours for it.
        is_fixed: whether it takes models of fixed shapes alone.
        settings: of this device, beside those of all.
        remedy: what to install where it is not there.
    """

    device: str
    precision: str
    dtype: str
    is_fixed: bool
    settings: Mapping[str, Any]
    remedy: str


_GROUP = "and let the service's user open it (group render)"
TARGETS = {
    "openvino": Target("CPU", "f32", "float32", False, {
        # Also what is no tensor of the model stays exact: quantised caches, dynamic groups.
        "EXECUTION_MODE_HINT": "ACCURACY",
        # Otherwise it takes two cores of a virtual machine for one, and half the threads rest.
        "ENABLE_HYPER_THREADING": True,
        # Which core a thread runs on is the system's to say: other models are there as well.
        "ENABLE_CPU_PINNING": False,
    }, 'install it again: pip install --force-reinstall "edged[openvino]"'),
    "openvino-gpu": Target("GPU", "f32", "float32", False, {
        # By itself it would compute in float16 and let overflows be.
        "EXECUTION_MODE_HINT": "ACCURACY",
    }, f"install the OpenCL driver of Intel's GPUs (Ubuntu: intel-opencl-icd) {_GROUP}"),
    "openvino-npu": Target("NPU", "f16", "float16", True, {
        # The driver would keep compiled models in the home directory.
        "NPU_BYPASS_UMD_CACHING": True,
    }, f"install Intel's NPU driver (github.com/intel/linux-npu-driver) {_GROUP}"),
}  # fmt: skip
"""By the runtime's name. The NPU computes in float16 and has nothing else."""


def settings(target: Target, threads: int, streams: int) -> dict[str, Any]:
    """What a model is compiled with.

    Args:
        target: the device.
        threads: of one run, of the processor's.
        streams: runs at the same time, of the processor's.
    """
    common: dict[str, Any] = {
        PRECISION: target.precision,
        "PERFORMANCE_HINT": "LATENCY",
        "CACHE_DIR": "",
    }
    if target.device == "CPU":
        common |= {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": threads * streams}
    return {**common, **target.settings}


def ids_of(target: Target, available: Sequence[str]) -> tuple[str, ...]:
    """The devices of one kind among those that the package sees, e.g. ``("gpu.0", "gpu.1")``."""
    return tuple(one.lower() for one in available if one.partition(".")[0] == target.device)


def absence(target: Target, version: str, available: Sequence[str], why: str) -> str:
    """What to say of a device that is not there.

    Args:
        target: the device.
        version: of the package.
        available: the devices that it sees.
        why: in its own words; empty where it has none.
    """
    seen = ", ".join(available) or "none"
    words = f" ({why})" if why else ""
    return (
        f"openvino {version} sees no {target.device} here{words}; it sees: {seen}; {target.remedy}"
    )
