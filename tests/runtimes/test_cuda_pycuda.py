"""PyCUDA: what ``test_cuda.py`` does not ask of both backends."""

from __future__ import annotations

import pytest

from edged.runtimes.cuda import CudaError
from edged.runtimes.cuda_pycuda import PyCuda
from tests.fakes.gpu import FakeGpu, FakePyCuda


def test_closing_a_stream_waits_for_what_is_in_it():
    """Its object goes with the last reference, and what it still copies needs the buffers."""
    gpu = FakeGpu()
    one = PyCuda(0, FakePyCuda(gpu))
    stream = one.stream()
    ran: list[int] = []
    gpu.queue(stream.handle, lambda: ran.append(1))
    one.close_stream(stream)
    assert ran


def test_memory_that_cannot_be_mapped_has_no_address_there():
    driver = FakePyCuda(FakeGpu())
    one = PyCuda(0, driver)

    class Unmapped:
        __array_interface__ = one.pin(4).array.__array_interface__

        def get_device_pointer(self) -> int:
            raise driver.Error("cuMemHostGetDevicePointer failed: operation not supported")

    owner = Unmapped()
    driver.pagelocked_empty = lambda *_: __import__("numpy").asarray(owner)
    assert one.pin(4).pointer == 0


def test_calls_without_a_context_are_errors_in_words():
    driver = FakePyCuda(FakeGpu())
    one = PyCuda(0, driver)
    driver.has_context = False
    with pytest.raises(CudaError, match=r"mem_get_info failed: .*invalid device context"):
        one.memory()
