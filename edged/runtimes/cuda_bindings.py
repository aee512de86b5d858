"""CUDA through cuda-bindings: NVIDIA's own package, whose calls return a status first."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from edged.runtimes.cuda import (
    Buffer,
    CudaError,
    CudaMemoryError,
    Device,
    Event,
    Graph,
    Pinned,
    Stream,
    check_room,
    flat,
    version_words,
)
from edged.tensors import Array

_OUT_OF_MEMORY = 2
_PORTABLE, _MAPPED = 1, 2
"""Flags of cudaHostAlloc: for every context, and mapped into the GPU's addresses."""
_NON_BLOCKING = 1
_DEFAULT = 0


class CudaBindings:
    """One device through ``cuda.bindings.runtime``.

    Args:
        device: which GPU, as CUDA counts.
        runtime: the module; the installed one when None.

    Raises:
        ImportError: the package is not there.
        CudaError: there is no such device.
    """

    name = "cuda-bindings"

    def __init__(self, device: int = 0, runtime: Any = None) -> None:
        self._cuda = _installed() if runtime is None else runtime
        self._device = device
        self.use()

    def use(self) -> None:
        """Make the device the calling thread's."""
        self._call("cudaSetDevice", self._device)

    def describe(self) -> Device:
        """What the device is."""
        what = self._cuda.cudaDeviceAttr
        major, minor, processors, integrated = (
            int(self._call("cudaDeviceGetAttribute", attribute, self._device))
            for attribute in (
                what.cudaDevAttrComputeCapabilityMajor,
                what.cudaDevAttrComputeCapabilityMinor,
                what.cudaDevAttrMultiProcessorCount,
                what.cudaDevAttrIntegrated,
            )
        )
        name = self._call("cudaGetDeviceProperties", self._device).name
        return Device(
            index=self._device,
            name=name.decode("utf-8", "replace").rstrip("\0"),
            compute_capability=f"{major}.{minor}",
            processors=processors,
            memory_bytes=self.memory()[1],
            is_integrated=bool(integrated),
            driver=version_words(self._call("cudaDriverGetVersion")),
            runtime=version_words(self._call("cudaRuntimeGetVersion")),
        )

    def memory(self) -> tuple[int, int]:
        """Free and total memory of the device."""
        free, total = self._call("cudaMemGetInfo")
        return int(free), int(total)

    def alloc(self, size: int) -> Buffer:
        """Memory of the device."""
        size = max(1, size)
        return Buffer(int(self._call("cudaMalloc", size)), size)

    def free(self, buffer: Buffer) -> None:
        """Give it back."""
        self._call("cudaFree", buffer.pointer)

    def pin(self, size: int) -> Pinned:
        """Pinned memory of the host."""
        size = max(1, size)
        address = int(self._call("cudaHostAlloc", size, _PORTABLE | _MAPPED))
        status, pointer = self._cuda.cudaHostGetDevicePointer(address, _DEFAULT)
        memory = memoryview((ctypes.c_uint8 * size).from_address(address))
        return Pinned(
            np.frombuffer(memory, np.dtype("u1")), 0 if int(status) else int(pointer), address
        )

    def unpin(self, pinned: Pinned) -> None:
        """Give it back."""
        self._call("cudaFreeHost", pinned.owner)

    def stream(self) -> Stream:
        """A stream that does not wait for the default one."""
        made = self._call("cudaStreamCreateWithFlags", _NON_BLOCKING)
        return Stream(int(made), made)

    def close_stream(self, stream: Stream) -> None:
        """Give it back."""
        self._call("cudaStreamDestroy", stream.owner)

    def sync(self, stream: Stream) -> None:
        """Wait until everything in it is done."""
        self._call("cudaStreamSynchronize", stream.owner)

    def copy_in(self, buffer: Buffer, array: Array, stream: Stream) -> None:
        """Copy an array to the start of ``buffer``."""
        check_room(array, buffer)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        address = flat(array).ctypes.data
        self._call("cudaMemcpyAsync", buffer.pointer, address, array.nbytes, kind, stream.owner)

    def copy_out(self, array: Array, buffer: Buffer, stream: Stream) -> None:
        """Fill an array from the start of ``buffer``."""
        check_room(array, buffer)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        address = flat(array).ctypes.data
        self._call("cudaMemcpyAsync", address, buffer.pointer, array.nbytes, kind, stream.owner)

    def begin_capture(self, stream: Stream) -> None:
        """Note what this thread queues; others may allocate meanwhile."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream.owner, mode)

    def end_capture(self, stream: Stream) -> Graph:
        """What was noted, ready to be launched."""
        noted = self._call("cudaStreamEndCapture", stream.owner)
        try:
            return Graph(self._call("cudaGraphInstantiate", noted, _DEFAULT))
        finally:
            self._call("cudaGraphDestroy", noted)

    def launch(self, graph: Graph, stream: Stream) -> None:
        """Queue it all."""
        self._call("cudaGraphLaunch", graph.owner, stream.owner)

    def close_graph(self, graph: Graph) -> None:
        """Give it back."""
        self._call("cudaGraphExecDestroy", graph.owner)

    def event(self) -> Event:
        """An event that takes times."""
        return Event(self._call("cudaEventCreateWithFlags", _DEFAULT))

    def close_event(self, event: Event) -> None:
        """Give it back."""
        self._call("cudaEventDestroy", event.owner)

    def record(self, event: Event, stream: Stream) -> None:
        """Put the event behind what is in the stream."""
        self._call("cudaEventRecord", event.owner, stream.owner)

    def wait(self, event: Event) -> None:
        """Wait until it has happened."""
        self._call("cudaEventSynchronize", event.owner)

    def elapsed_ms(self, start: Event, end: Event) -> float:
        """Milliseconds between two events that have happened."""
        return float(self._call("cudaEventElapsedTime", start.owner, end.owner))

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call one function, and give what follows its status: one value, or several as a tuple."""
        status, *values = getattr(self._cuda, name)(*arguments)
        if int(status):
            raise self._error(name, status)
        return values[0] if len(values) == 1 else tuple(values)

    def _error(self, name: str, status: Any) -> CudaError:
        words = self._cuda.cudaGetErrorString(status)[1]
        if isinstance(words, bytes):
            words = words.decode("utf-8", "replace")
        kind = CudaMemoryError if int(status) == _OUT_OF_MEMORY else CudaError
        return kind(f"{name} failed: {words} (status {int(status)})")


def _installed() -> Any:
    from cuda.bindings import runtime  # noqa: PLC0415 - megabytes that not every process needs

    return runtime
