"""A GPU in memory, and the two packages that speak to it: the same device under both.

What is queued in a stream happens when the stream is waited for and not before, so that code which
reads too early, or changes an input too early, sees wrong bytes. Addresses are handed out apart from
each other, and a copy past the end of an allocation fails. ``fail`` makes the next call of a name
answer with an error.

The members of ``bindings`` are held against the real package (``tests/runtimes/test_cuda_bindings``).
"""

# ruff: noqa: N802, N803 - the packages' own names

from __future__ import annotations

import collections
import ctypes
import itertools
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np

MEMORY = 8 << 30
_APART = 1 << 16


class FakeGpu:
    """One device: allocations, streams, and what went wrong."""

    def __init__(self, count: int = 1, *, memory: int = MEMORY, integrated: bool = False) -> None:
        self.count = count
        self.total = memory
        self.integrated = integrated
        self.memory: dict[int, bytearray] = {}
        self.host: dict[int, Any] = {}
        self.streams: dict[int, list[Callable[[], None]]] = {0: []}
        self.fail: dict[str, int] = {}
        self.capturing: dict[int, list[Callable[[], None]]] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.calls: list[str] = []
        self.clock_ms = 0.0
        self._next = 0x7000_0000
        self._handles = itertools.count(0x5000)
        self._lock = threading.Lock()

    @property
    def is_empty(self) -> bool:
        """Whether everything was given back."""
        return not (self.memory or self.host or self.graphs) and set(self.streams) == {0}

    def status(self, name: str) -> int:
        self.calls.append(name)
        return self.fail.pop(name, 0)

    def alloc(self, size: int) -> int:
        with self._lock:
            pointer = self._next
            self._next += size + _APART
        self.memory[pointer] = bytearray(b"\xcc" * size)
        return pointer

    @property
    def free_bytes(self) -> int:
        return self.total - sum(map(len, list(self.memory.values())))

    def find(self, pointer: int, size: int) -> memoryview:
        for start, data in list(self.memory.items()):  # another thread may allocate meanwhile
            if start <= pointer and pointer + size <= start + len(data):
                return memoryview(data)[pointer - start : pointer - start + size]
        for start, memory in list(self.host.items()):
            mapped = start + 1  # as ``cudaHostGetDevicePointer`` says here
            if mapped <= pointer and pointer + size <= mapped + len(memory):
                return memoryview(memory).cast("B")[pointer - mapped : pointer - mapped + size]
        raise IndexError(f"{size} bytes at {pointer:#x} are not allocated")

    def pin(self, size: int) -> int:
        memory = (ctypes.c_uint8 * size)()
        address = ctypes.addressof(memory)
        self.host[address] = memory
        return address

    def stream(self) -> int:
        handle = next(self._handles)
        self.streams[handle] = []
        return handle

    def queue(self, stream: int, work: Callable[[], None]) -> None:
        self.capturing.get(stream, self.streams[stream]).append(work)

    def begin_capture(self, stream: int) -> None:
        self.capturing[stream] = []

    def end_capture(self, stream: int) -> int:
        graph = next(self._handles)
        self.graphs[graph] = self.capturing.pop(stream)
        return graph

    def drain(self, stream: int) -> None:
        assert stream not in self.capturing, "a stream that is captured cannot be waited for"
        work, self.streams[stream] = self.streams[stream], []
        for one in work:
            one()

    def drain_all(self) -> None:
        for stream in list(self.streams):
            self.drain(stream)

    def copy_in(self, pointer: int, address: int, size: int) -> None:
        self.find(pointer, size)[:] = ctypes.string_at(address, size)

    def copy_out(self, address: int, pointer: int, size: int) -> None:
        ctypes.memmove(address, bytes(self.find(pointer, size)), size)

    def tick(self) -> float:
        self.clock_ms += 0.25
        return self.clock_ms


def _handle(value: Any) -> int:
    return int(value)


class _Status(int):
    """A status that converts to a number and prints as a name, as the package's own do."""


class FakeBindings(types.SimpleNamespace):
    """``cuda.bindings.runtime``: every call returns a tuple that begins with a status."""

    def __init__(self, gpu: FakeGpu) -> None:
        super().__init__()
        self._gpu = gpu
        self.cudaDeviceAttr = types.SimpleNamespace(
            cudaDevAttrComputeCapabilityMajor=75,
            cudaDevAttrComputeCapabilityMinor=76,
            cudaDevAttrMultiProcessorCount=16,
            cudaDevAttrIntegrated=18,
        )
        self.cudaMemcpyKind = types.SimpleNamespace(
            cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2
        )
        self.cudaStreamCaptureMode = types.SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
        self._events: dict[int, float] = {}

    def _answer(self, name: str, make: Callable[[], Any] | None = None) -> tuple[Any, ...]:
        status = self._gpu.status(name)
        if status:
            return (_Status(status), None) if make else (_Status(status),)
        if make is None:
            return (_Status(0),)
        made = make()
        return (_Status(0), *made) if isinstance(made, tuple) else (_Status(0), made)

    def cudaGetErrorString(self, status: int) -> tuple[Any, ...]:
        return (
            _Status(0),
            {2: b"out of memory", 101: b"invalid device ordinal"}.get(status, b"unknown error"),
        )

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:
        if device >= self._gpu.count:
            return (_Status(101),)
        return self._answer("cudaSetDevice")

    def cudaDeviceGetAttribute(self, attr: int, device: int) -> tuple[Any, ...]:
        value = {75: 8, 76: 7, 16: 16, 18: int(self._gpu.integrated)}[attr]
        return self._answer("cudaDeviceGetAttribute", lambda: value)

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        return self._answer(
            "cudaGetDeviceProperties", lambda: types.SimpleNamespace(name=b"Fake" + bytes(4))
        )

    def cudaDriverGetVersion(self) -> tuple[Any, ...]:
        return self._answer("cudaDriverGetVersion", lambda: 13000)

    def cudaRuntimeGetVersion(self) -> tuple[Any, ...]:
        return self._answer("cudaRuntimeGetVersion", lambda: 12060)

    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        return self._answer("cudaMemGetInfo", lambda: (self._gpu.free_bytes, self._gpu.total))

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if size > self._gpu.free_bytes:
            return (_Status(2), None)
        return self._answer("cudaMalloc", lambda: self._gpu.alloc(size))

    def cudaFree(self, devPtr: int) -> tuple[Any, ...]:
        del self._gpu.memory[devPtr]
        return self._answer("cudaFree")

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:
        assert flags == 3
        return self._answer("cudaHostAlloc", lambda: self._gpu.pin(size))

    def cudaFreeHost(self, ptr: int) -> tuple[Any, ...]:
        del self._gpu.host[ptr]
        return self._answer("cudaFreeHost")

    def cudaHostGetDevicePointer(self, pHost: int, flags: int) -> tuple[Any, ...]:
        return self._answer("cudaHostGetDevicePointer", lambda: pHost + 1)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        assert flags == 1
        return self._answer("cudaStreamCreateWithFlags", self._gpu.stream)

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        del self._gpu.streams[stream]
        return self._answer("cudaStreamDestroy")

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        self._gpu.drain(stream)
        return self._answer("cudaStreamSynchronize")

    def cudaMemcpyAsync(
        self, dst: int, src: int, count: int, kind: int, stream: int
    ) -> tuple[Any, ...]:
        copy = self._gpu.copy_in if kind == 1 else self._gpu.copy_out
        self._gpu.queue(stream, lambda: copy(dst, src, count))
        return self._answer("cudaMemcpyAsync")

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[Any, ...]:
        assert mode == 1
        answer = self._answer("cudaStreamBeginCapture")
        if not answer[0]:
            self._gpu.begin_capture(stream)
        return answer

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        noted = self._gpu.end_capture(stream)
        answer = self._answer("cudaStreamEndCapture", lambda: noted)
        if answer[0]:
            del self._gpu.graphs[noted]
        return answer

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Any, ...]:
        assert flags == 0

        def make() -> int:
            made = graph + 0x100000
            self._gpu.graphs[made] = self._gpu.graphs[graph]
            return made

        return self._answer("cudaGraphInstantiate", make)

    def cudaGraphDestroy(self, graph: int) -> tuple[Any, ...]:
        del self._gpu.graphs[graph]
        return self._answer("cudaGraphDestroy")

    def cudaGraphExecDestroy(self, graphExec: int) -> tuple[Any, ...]:
        del self._gpu.graphs[graphExec]
        return self._answer("cudaGraphExecDestroy")

    def cudaGraphLaunch(self, graphExec: int, stream: int) -> tuple[Any, ...]:
        answer = self._answer("cudaGraphLaunch")
        if not answer[0]:
            for work in self._gpu.graphs[graphExec]:
                self._gpu.queue(stream, work)
        return answer

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        return self._answer("cudaEventCreateWithFlags", lambda: next(self._gpu._handles))

    def cudaEventDestroy(self, event: int) -> tuple[Any, ...]:
        self._events.pop(event, None)
        return self._answer("cudaEventDestroy")

    def cudaEventRecord(self, event: int, stream: int) -> tuple[Any, ...]:
        self._gpu.queue(stream, lambda: self._events.__setitem__(event, self._gpu.tick()))
        return self._answer("cudaEventRecord")

    def cudaEventSynchronize(self, event: int) -> tuple[Any, ...]:
        self._gpu.drain_all()
        return self._answer("cudaEventSynchronize")

    def cudaEventElapsedTime(self, start: int, end: int) -> tuple[Any, ...]:
        if start not in self._events or end not in self._events:
            return (_Status(600), None)
        return self._answer("cudaEventElapsedTime", lambda: self._events[end] - self._events[start])


class FakePyCuda(types.SimpleNamespace):
    """``pycuda.driver``: calls raise, and need a context on the calling thread.

    ``stacks`` holds each thread's contexts: the real one aborts the process when a thread ends and
    its stack is not empty.
    """

    def __init__(self, gpu: FakeGpu) -> None:
        super().__init__()
        self._gpu = gpu
        self.stacks: dict[int, list[Any]] = collections.defaultdict(list)
        self.Error = type("Error", (Exception,), {})
        self.MemoryError = type("MemoryError", (self.Error,), {})
        self.device_attribute = types.SimpleNamespace(MULTIPROCESSOR_COUNT=16, INTEGRATED=18)
        self.host_alloc_flags = types.SimpleNamespace(PORTABLE=1, DEVICEMAP=2, WRITECOMBINED=4)

    def _check(self, name: str) -> None:
        if name not in ("init", "Device") and not self.stacks[threading.get_ident()]:
            raise self.Error(f"{name} failed: invalid device context")
        status = self._gpu.status(name)
        if status:
            kind = self.MemoryError if status == 2 else self.Error
            raise kind(f"{name} failed: {'out of memory' if status == 2 else 'unknown error'}")

    def init(self) -> None:
        self._check("init")

    def Device(self, index: int) -> Any:
        self._check("Device")
        if index >= self._gpu.count:
            raise self.Error("cuDeviceGet failed: invalid device ordinal")
        driver = self

        class Context:
            def push(self) -> None:
                driver.stacks[threading.get_ident()].append(self)

            def pop(self) -> None:
                driver.stacks[threading.get_ident()].pop()

        return types.SimpleNamespace(
            retain_primary_context=Context,
            compute_capability=lambda: (8, 7),
            name=lambda: "Fake",
            get_attribute=lambda what: {16: 16, 18: int(driver._gpu.integrated)}[what],
        )

    def get_version(self) -> tuple[int, int, int]:
        return (12, 6, 0)

    def get_driver_version(self) -> int:
        return 13000

    def mem_get_info(self) -> tuple[int, int]:
        self._check("mem_get_info")
        return self._gpu.free_bytes, self._gpu.total

    def mem_alloc(self, size: int) -> Any:
        if size > self._gpu.free_bytes:
            raise self.MemoryError("cuMemAlloc failed: out of memory")
        self._check("mem_alloc")
        return _Allocation(self._gpu.memory, self._gpu.alloc(size))

    def pagelocked_empty(self, shape: int, dtype: Any, order: str, mem_flags: int) -> Any:
        assert mem_flags == 3
        self._check("pagelocked_empty")
        address = self._gpu.pin(shape)
        owner = _Allocation(self._gpu.host, address)
        owner.__array_interface__ = {
            "shape": (shape,), "typestr": "|u1", "data": (address, False), "version": 3,
        }  # fmt: skip
        owner.get_device_pointer = lambda: address + 1
        return np.asarray(owner)

    def Stream(self, flags: int = 0) -> Any:
        assert flags == 1
        self._check("Stream")
        handle = self._gpu.stream()
        return types.SimpleNamespace(handle=handle, synchronize=lambda: self._sync(handle))

    def _sync(self, handle: int) -> None:
        self._gpu.drain(handle)
        self._check("Stream.synchronize")

    def Event(self) -> Any:
        self._check("Event")
        driver = self

        class Event:
            at = None

            def record(self, stream: Any) -> None:
                driver._gpu.queue(stream.handle, lambda: setattr(self, "at", driver._gpu.tick()))

            def synchronize(self) -> None:
                driver._gpu.drain_all()

            def time_till(self, other: Any) -> float:
                if self.at is None or other.at is None:
                    raise driver.Error("cuEventElapsedTime failed: not ready")
                return other.at - self.at

        return Event()

    def memcpy_htod_async(self, dest: int, src: Any, stream: Any) -> None:
        self._check("memcpy_htod_async")
        address, size = src.ctypes.data, src.nbytes
        self._gpu.queue(stream.handle, lambda: self._gpu.copy_in(dest, address, size))

    def memcpy_dtoh_async(self, dest: Any, src: int, stream: Any) -> None:
        self._check("memcpy_dtoh_async")
        address, size = dest.ctypes.data, dest.nbytes
        self._gpu.queue(stream.handle, lambda: self._gpu.copy_out(address, src, size))


class _Allocation:
    def __init__(self, home: dict[int, Any], address: int) -> None:
        self._home = home
        self._address = address

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        del self._home[self._address]
