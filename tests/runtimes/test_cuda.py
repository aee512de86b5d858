"""The CUDA interface: both backends over the same device, the same words, the same promises."""

# ruff: noqa: N802 - the driver's own names

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np
import pytest

from edged.errors import LoadError
from edged.runtimes import cuda
from edged.runtimes.cuda import Cuda, CudaError, CudaMemoryError, driver_problem, open_cuda
from edged.runtimes.cuda_bindings import CudaBindings
from edged.runtimes.cuda_pycuda import PyCuda
from tests.fakes.gpu import FakeBindings, FakeGpu, FakePyCuda


def make(kind: str, gpu: FakeGpu, device: int = 0) -> Cuda:
    if kind == "cuda-bindings":
        return CudaBindings(device, FakeBindings(gpu))
    return PyCuda(device, FakePyCuda(gpu))


@pytest.fixture
def gpu() -> FakeGpu:
    return FakeGpu()


@pytest.fixture(params=["cuda-bindings", "pycuda"])
def one(request: pytest.FixtureRequest, gpu: FakeGpu) -> Cuda:
    return make(request.param, gpu)


def test_device(one: Cuda):
    device = one.describe()
    assert (device.name, device.compute_capability, device.processors) == ("Fake", "8.7", 16)
    assert (device.driver, device.runtime) == ("13.0", "12.6")
    assert device.memory_bytes == 8 << 30
    assert not device.is_integrated


def test_there_and_back(one: Cuda, gpu: FakeGpu):
    wanted = np.arange(24, dtype="f4").reshape(2, 3, 4)
    got = np.zeros_like(wanted)
    stream, buffer = one.stream(), one.alloc(wanted.nbytes)
    one.copy_in(buffer, wanted, stream)
    one.copy_out(got, buffer, stream)
    one.sync(stream)
    np.testing.assert_array_equal(got, wanted)
    one.free(buffer)
    one.close_stream(stream)
    assert not gpu.memory


def test_nothing_happens_before_the_stream_is_waited_for(one: Cuda):
    """Holds the fake to its word: code that forgot to wait reads wrong bytes in every test."""
    stream, buffer = one.stream(), one.alloc(4)
    got = np.zeros(4, "u1")
    one.copy_in(buffer, np.full(4, 7, "u1"), stream)
    one.copy_out(got, buffer, stream)
    assert not got.any()


def test_pinned_memory(one: Cuda, gpu: FakeGpu):
    pinned = one.pin(16)
    assert pinned.array.nbytes == 16
    assert pinned.pointer == pinned.array.ctypes.data + 1
    pinned.array[:] = 9
    stream, buffer = one.stream(), one.alloc(16)
    one.copy_in(buffer, pinned.array, stream)
    one.sync(stream)
    assert bytes(gpu.find(buffer.pointer, 16)) == b"\x09" * 16
    one.unpin(pinned)
    assert not gpu.host


def test_events_take_times(one: Cuda):
    stream, start, end = one.stream(), one.event(), one.event()
    one.record(start, stream)
    one.record(end, stream)
    one.wait(end)
    assert one.elapsed_ms(start, end) == 0.25
    one.close_event(start)
    one.close_event(end)


def test_events_that_have_not_happened(one: Cuda):
    with pytest.raises(CudaError, match=r"ElapsedTime|time_till"):
        one.elapsed_ms(one.event(), one.event())


def test_memory_figures(one: Cuda):
    free, total = one.memory()
    buffer = one.alloc(1 << 20)
    assert one.memory() == (free - (1 << 20), total)
    one.free(buffer)


def test_empty_memory_is_one_byte(one: Cuda):
    assert one.alloc(0).size == 1
    assert one.pin(0).array.size == 1


class TestErrors:
    def test_short_memory_has_its_own_class(self, one: Cuda):
        with pytest.raises(CudaMemoryError, match="out of memory"):
            one.alloc(9 << 30)

    @pytest.mark.parametrize("kind", ["cuda-bindings", "pycuda"])
    def test_no_such_device(self, kind: str, gpu: FakeGpu):
        with pytest.raises(CudaError, match="invalid device ordinal"):
            make(kind, gpu, device=1)

    def test_a_failed_run_is_heard_when_it_is_waited_for(self, one: Cuda, gpu: FakeGpu):
        stream = one.stream()
        gpu.fail = {"cudaStreamSynchronize": 700, "Stream.synchronize": 700}
        with pytest.raises(CudaError, match=r"[sS]ynchronize failed: .*unknown error"):
            one.sync(stream)

    def test_copies_past_the_end_are_not_made(self, one: Cuda):
        stream, buffer = one.stream(), one.alloc(8)
        for copy in (
            lambda: one.copy_in(buffer, np.zeros(9, "u1"), stream),
            lambda: one.copy_out(np.zeros(9, "u1"), buffer, stream),
        ):
            with pytest.raises(CudaError, match="9 bytes does not fit a buffer of 8"):
                copy()

    def test_strided_arrays_are_not_copied(self, one: Cuda):
        stream, buffer = one.stream(), one.alloc(64)
        with pytest.raises(CudaError, match="contiguous"):
            one.copy_in(buffer, np.zeros((4, 4), "f4")[:, ::2], stream)
        with pytest.raises(CudaError, match="contiguous"):
            one.copy_out(np.zeros((4, 4), "f4").T, buffer, stream)


class Driver:
    """The driver's library: a status for starting, and a number of GPUs."""

    def __init__(self, status: int = 0, count: int = 1) -> None:
        self.status = status
        self.count = count

    def cuInit(self, flags: int) -> int:
        return self.status

    def cuDeviceGetCount(self, out: Any) -> int:
        ctypes.c_int.from_address(ctypes.addressof(out._obj)).value = self.count
        return 0


class TestDriver:
    def test_there(self):
        assert driver_problem(lambda name: Driver()) == ""

    @pytest.mark.parametrize(
        ("status", "count", "words"),
        [
            (100, 0, "no GPU is visible"),
            (0, 0, "no GPU is visible"),
            (801, 0, "groups video and render"),
            (803, 0, "different versions"),
            (12345, 0, "status 12345"),
        ],
    )
    def test_does_not_start(self, status: int, count: int, words: str):
        assert words in driver_problem(lambda name: Driver(status, count))

    def test_not_installed(self):
        def missing(name: str) -> Any:
            raise OSError(name)

        assert "no NVIDIA driver is installed" in driver_problem(missing)

    def test_something_else_of_that_name(self):
        assert "is not an NVIDIA driver" in driver_problem(lambda name: object())


class TestOpening:
    @pytest.fixture(autouse=True)
    def _driver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cuda, "driver_problem", lambda: "")

    def test_the_first_that_is_there(self, monkeypatch: pytest.MonkeyPatch, gpu: FakeGpu):
        monkeypatch.setattr(cuda, "_bindings", lambda device: make("cuda-bindings", gpu, device))
        assert open_cuda().name == "cuda-bindings"

    def test_the_second_where_the_first_is_missing(
        self, monkeypatch: pytest.MonkeyPatch, gpu: FakeGpu
    ):
        monkeypatch.setattr(cuda, "_bindings", _missing("No module named 'cuda'"))
        monkeypatch.setattr(cuda, "_pycuda", lambda device: make("pycuda", gpu, device))
        assert open_cuda().name == "pycuda"

    def test_neither(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(cuda, "_bindings", _missing("No module named 'cuda'"))
        monkeypatch.setattr(cuda, "_pycuda", _missing("undefined symbol: cuArrayCreate_v2"))
        with pytest.raises(LoadError, match="No module named 'cuda'; pycuda: does not import"):
            open_cuda()

    def test_no_driver(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(cuda, "driver_problem", lambda: "no NVIDIA driver is installed")
        monkeypatch.setattr(cuda, "_bindings", _missing("asked without a driver"))
        with pytest.raises(LoadError, match="no NVIDIA driver"):
            open_cuda()


def _missing(words: str):
    def create(device: int) -> Any:
        raise ImportError(words)

    return create


@pytest.mark.gpu
class TestRealDevice:
    """The same promises, kept by a real driver; each backend where it is installed."""

    @pytest.fixture(params=["cuda-bindings", "pycuda"])
    def real(self, request: pytest.FixtureRequest) -> Cuda:
        if problem := driver_problem():
            pytest.skip(problem)
        pytest.importorskip(
            {"cuda-bindings": "cuda.bindings.runtime", "pycuda": "pycuda.driver"}[request.param],
            reason="gpu test without this package",
        )
        made = CudaBindings() if request.param == "cuda-bindings" else PyCuda()
        made.use()
        return made

    def test_describes_itself(self, real: Cuda):
        device = real.describe()
        assert device.name
        assert float(device.compute_capability) >= 5
        assert device.memory_bytes > 1 << 30

    def test_there_and_back_from_pinned_memory(self, real: Cuda):
        size = 16 << 20
        stream, buffer = real.stream(), real.alloc(size)
        source, target = real.pin(size), real.pin(size)
        source.array[:] = np.random.default_rng(0).integers(0, 256, size, dtype="u1")
        target.array[:] = 0
        start, end = real.event(), real.event()
        real.record(start, stream)
        real.copy_in(buffer, source.array, stream)
        real.copy_out(target.array, buffer, stream)
        real.record(end, stream)
        real.sync(stream)
        np.testing.assert_array_equal(source.array, target.array)
        assert real.elapsed_ms(start, end) > 0
        assert stream.handle
        for event in (start, end):
            real.close_event(event)
        real.free(buffer)
        real.unpin(source)
        real.unpin(target)
        real.close_stream(stream)

    def test_ordinary_memory_and_two_streams(self, real: Cuda):
        arrays = [np.full(1 << 20, n, "u1") for n in (1, 2)]
        outs = [np.zeros(1 << 20, "u1") for _ in arrays]
        streams, buffers = [real.stream() for _ in arrays], [real.alloc(1 << 20) for _ in arrays]
        for array, out, stream, buffer in zip(arrays, outs, streams, buffers, strict=True):
            real.copy_in(buffer, array, stream)
            real.copy_out(out, buffer, stream)
        for out, array, stream, buffer in zip(outs, arrays, streams, buffers, strict=True):
            real.sync(stream)
            np.testing.assert_array_equal(out, array)
            real.free(buffer)
            real.close_stream(stream)

    def test_more_memory_than_there_is(self, real: Cuda):
        with pytest.raises(CudaMemoryError):
            real.alloc(1 << 45)
        real.free(real.alloc(1 << 20))

    def test_another_thread(self, real: Cuda):
        seen: list[int] = []

        def work() -> None:
            real.use()
            buffer = real.alloc(1 << 20)
            seen.append(buffer.pointer)
            real.free(buffer)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(30)
        assert seen
