"""CUDA through PyCUDA, which builds with JetPack's toolkit where cuda-bindings has no wheel.

PyCUDA speaks the driver API: it raises, and its contexts belong to threads. The device's primary
context is used, which is the one that TensorRT and ONNX Runtime use too. A thread that ends with a
context of PyCUDA's still its own takes the process along (SIGABRT), so that each is taken back.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
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

_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING, which the package has no name for."""
_HERE = threading.local()
"""``current``: the calling thread's `_Current`, if it has one."""


class _Current:
    """A context that is the calling thread's; popped with the thread's own data, on that thread."""

    def __init__(self, key: tuple[Any, int], context: Any) -> None:
        self.key = key
        self.context = context
        context.push()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # not pushed, or the driver is gone already
            self.context.pop()


@atexit.register
def _let_go() -> None:
    """The main thread's data outlives PyCUDA's own end."""
    _HERE.__dict__.clear()


class PyCuda:
    """One device through ``pycuda.driver``.

    Args:
        device: which GPU, as CUDA counts.
        driver: the module; the installed one when None.

    Raises:
        ImportError: the package is not there.
        CudaError: there is no such device.
    """

    name = "pycuda"

    def __init__(self, device: int = 0, driver: Any = None) -> None:
        self._cuda = driver = _installed() if driver is None else driver
        self._index = device
        self._call("init", driver.init)
        self._device = self._call("Device", driver.Device, device)
        self._context = self._call("retain_primary_context", self._device.retain_primary_context)
        self.use()

    def use(self) -> None:
        """Make the device the calling thread's."""
        key = (self._cuda, self._index)
        current = getattr(_HERE, "current", None)
        if current is None or current.key != key:
            _HERE.current = current = None  # popped before the next is pushed
            _HERE.current = self._call("Context.push", _Current, key, self._context)

    def describe(self) -> Device:
        """What the device is."""
        device, what = self._device, self._cuda.device_attribute
        major, minor = device.compute_capability()
        version = self._cuda.get_version()
        return Device(
            index=self._index,
            name=device.name(),
            compute_capability=f"{major}.{minor}",
            processors=int(device.get_attribute(what.MULTIPROCESSOR_COUNT)),
            memory_bytes=self.memory()[1],
            is_integrated=bool(device.get_attribute(what.INTEGRATED)),
            driver=version_words(self._cuda.get_driver_version()),
            runtime=".".join(map(str, version[:2])),
        )

    def memory(self) -> tuple[int, int]:
        """Free and total memory of the device."""
        free, total = self._call("mem_get_info", self._cuda.mem_get_info)
        return int(free), int(total)

    def alloc(self, size: int) -> Buffer:
        """Memory of the device."""
        size = max(1, size)
        made = self._call("mem_alloc", self._cuda.mem_alloc, size)
        return Buffer(int(made), size, made)

    def free(self, buffer: Buffer) -> None:
        """Give it back."""
        self._call("DeviceAllocation.free", buffer.owner.free)

    def pin(self, size: int) -> Pinned:
        """Pinned memory of the host."""
        flags = self._cuda.host_alloc_flags
        array = self._call(
            "pagelocked_empty",
            self._cuda.pagelocked_empty,
            max(1, size),
            np.uint8,
            "C",
            flags.PORTABLE | flags.DEVICEMAP,
        )
        owner = array.base
        try:
            pointer = int(owner.get_device_pointer())
        except self._cuda.Error:
            pointer = 0
        return Pinned(array, pointer, owner)

    def unpin(self, pinned: Pinned) -> None:
        """Give it back."""
        self._call("PagelockedHostAllocation.free", pinned.owner.free)

    def stream(self) -> Stream:
        """A stream that does not wait for the default one."""
        made = self._call("Stream", self._cuda.Stream, _NON_BLOCKING)
        return Stream(int(made.handle), made)

    def close_stream(self, stream: Stream) -> None:
        """PyCUDA gives it back with its object; what was queued is waited for."""
        self.sync(stream)

    def sync(self, stream: Stream) -> None:
        """Wait until everything in it is done."""
        self._call("Stream.synchronize", stream.owner.synchronize)

    def copy_in(self, buffer: Buffer, array: Array, stream: Stream) -> None:
        """Copy an array to the start of ``buffer``."""
        check_room(array, buffer)
        if array.nbytes:
            call = self._cuda.memcpy_htod_async
            self._call("memcpy_htod_async", call, buffer.pointer, flat(array), stream.owner)

    def copy_out(self, array: Array, buffer: Buffer, stream: Stream) -> None:
        """Fill an array from the start of ``buffer``."""
        check_room(array, buffer)
        if array.nbytes:
            call = self._cuda.memcpy_dtoh_async
            self._call("memcpy_dtoh_async", call, flat(array), buffer.pointer, stream.owner)

    def begin_capture(self, stream: Stream) -> None:
        """PyCUDA has no call for it."""
        del stream
        raise CudaError("PyCUDA captures no graphs; install cuda-bindings for them")

    def end_capture(self, stream: Stream) -> Graph:
        """Nothing was noted."""
        del stream
        raise CudaError("PyCUDA captures no graphs")

    def launch(self, graph: Graph, stream: Stream) -> None:
        """There are none."""
        del graph, stream
        raise CudaError("PyCUDA launches no graphs")

    def close_graph(self, graph: Graph) -> None:
        """There are none."""

    def event(self) -> Event:
        """An event that takes times."""
        return Event(self._call("Event", self._cuda.Event))

    def close_event(self, event: Event) -> None:
        """PyCUDA gives it back with its object."""

    def record(self, event: Event, stream: Stream) -> None:
        """Put the event behind what is in the stream."""
        self._call("Event.record", event.owner.record, stream.owner)

    def wait(self, event: Event) -> None:
        """Wait until it has happened."""
        self._call("Event.synchronize", event.owner.synchronize)

    def elapsed_ms(self, start: Event, end: Event) -> float:
        """Milliseconds between two events that have happened."""
        return float(self._call("Event.time_till", start.owner.time_till, end.owner))

    def _call(self, name: str, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._cuda.MemoryError as exc:
            raise CudaMemoryError(f"{name} failed: {exc}") from exc
        except self._cuda.Error as exc:
            raise CudaError(f"{name} failed: {exc}") from exc


def _installed() -> Any:
    import pycuda.driver  # noqa: PLC0415 - needs the driver's library at once

    return pycuda.driver
