"""A device that is gone is told from inputs that are wrong, by what the backends really say."""

from __future__ import annotations

import pytest

from edged.errors import DeviceLostError, RunError, error_from_wire
from edged.runtimes.loss import run_error, tells_of_loss

LOST = [
    (
        "Non-zero status code returned while running Conv node. Name:'c' Status Message: CUDA "
        "failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=box ; line=63 ; "
        "expr=cudaStreamSynchronize(stream);"
    ),
    "CUDA failure 719: something new ; GPU=0",
    "CUDA error 46: x",
    "cudaMemcpyAsync failed: unknown error (status 999)",
    "cuStreamSynchronize failed: unspecified launch failure",
    "Error Code 1: Cuda Runtime (an illegal memory access was encountered)",
    "no CUDA-capable device is detected",
    "[GPU] zeCommandQueueExecuteCommandLists: ZE_RESULT_ERROR_DEVICE_LOST",
]
NOT_LOST = [
    "",
    "the session is closed",
    "Got invalid dimensions for input: x for the following indices index: 1 Got: 700 Expected: 4",
    "CUDA failure 2: out of memory ; GPU=0",
    "CUDA failure 101: invalid device ordinal ; GPU=-1 ; expr=NonZeroCalcPrefixSumTempStorageBytes",
    "CUDNN failure 9: CUDNN_STATUS_NOT_SUPPORTED ; GPU=0",
    "CUDA failure 1: invalid argument ; GPU=1",
    "cudaMalloc failed: out of memory (status 2)",
    'input "x" is [999, 4]; the engine was built for [1, 4] to [8, 4]',
]


@pytest.mark.parametrize("words", LOST)
def test_lost(words: str):
    assert tells_of_loss(words)
    assert type(run_error('model "gate" failed', words)) is DeviceLostError


@pytest.mark.parametrize("words", NOT_LOST)
def test_not_lost(words: str):
    assert not tells_of_loss(words)
    assert type(run_error(f"model failed: {words}")) is RunError


def test_it_is_the_same_on_both_sides_of_a_worker():
    error = run_error(LOST[0])
    again = error_from_wire(error.code.value, type(error).__name__, error.message)
    assert type(again) is DeviceLostError
