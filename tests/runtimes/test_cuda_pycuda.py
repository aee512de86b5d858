"""PyCUDA: what ``test_cuda.py`` does not ask of both backends."""

from __future__ import annotations

import gc
import threading

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
    driver.stacks.clear()
    with pytest.raises(CudaError, match=r"mem_get_info failed: .*invalid device context"):
        one.memory()


class TestThreads:
    """PyCUDA's contexts lie on a stack a thread."""

    def use(self, *those: PyCuda) -> tuple[int, list[int]]:
        """Use them one after the other on a thread: who it was, and the height after each."""
        heights: list[int] = []
        who: list[int] = []

        def work() -> None:
            who.append(threading.get_ident())
            for one in those:
                one.use()
                heights.append(len(one._cuda.stacks[threading.get_ident()]))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
        return who[0], heights

    def test_a_thread_makes_the_device_its_own_once(self):
        """Without ``use`` on each thread, calls there would fail."""
        one = PyCuda(0, FakePyCuda(FakeGpu()))
        assert self.use(one, one)[1] == [1, 1]

    def test_a_thread_that_ends_leaves_no_context(self):
        """PyCUDA would end the process with SIGABRT (seen on a real GPU)."""
        driver = FakePyCuda(FakeGpu())
        thread, heights = self.use(PyCuda(0, driver))
        assert heights == [1]
        assert driver.stacks[thread] == []

    def test_of_two_devices_the_last_is_current(self):
        driver = FakePyCuda(FakeGpu(count=2))
        first, second = PyCuda(0, driver), PyCuda(1, driver)
        thread, heights = self.use(first, second, first)
        assert heights == [1, 1, 1]
        assert driver.stacks[thread] == []

    def test_a_device_that_is_let_go_leaves_other_threads_alone(self):
        driver = FakePyCuda(FakeGpu())
        here = threading.get_ident()
        one = PyCuda(0, driver)
        assert len(driver.stacks[here]) == 1
        del one
        gc.collect()
        assert len(driver.stacks[here]) == 1
