"""CUDA in a dozen words: memory, pinned memory, streams, events and copies, and which device it is.

Two packages can say them, cuda-bindings (``cuda_bindings.py``) and PyCUDA (``cuda_pycuda.py``);
everything above speaks ``Cuda`` only. Decides which of the two is used, and says in words why
neither can be. Every size is in bytes. Asking the driver whether it is there costs no context.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from edged.errors import LoadError, RuntimeFailureError
from edged.tensors import Array

DRIVER = "libcuda.so.1"
_NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE: the driver is loaded and sees no GPU."""
_NAMES = {
    _NO_DEVICE: "no GPU is visible",
    2: "the GPU is out of memory",
    34: "only the toolkit's stub of it is installed",
    46: "the GPU is busy or reserved",
    101: "no such GPU",
    304: "the operating system refused (are the device files accessible?)",
    801: "not supported here (on a Jetson: is the user in the groups video and render?)",
    803: "the driver and its user-space library are of different versions",
    804: "the driver is older than the compatibility library that was loaded",
    999: "unknown error",
}


class CudaError(RuntimeFailureError):
    """A CUDA call failed; the message names the call and what CUDA said."""


class CudaMemoryError(CudaError):
    """There is not so much memory left on the GPU."""


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU as CUDA describes it.

    Args:
        index: as CUDA counts.
        name: e.g. ``Orin``.
        compute_capability: e.g. ``8.7``.
        processors: number of its multiprocessors.
        memory_bytes: all it has; on a Jetson that is the machine's memory.
        is_integrated: whether it shares the machine's memory.
        driver: the newest CUDA that the driver speaks, e.g. ``13.0``.
        runtime: the CUDA that the package was made for.
    """

    index: int
    name: str
    compute_capability: str
    processors: int
    memory_bytes: int
    is_integrated: bool
    driver: str
    runtime: str


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of the GPU; ``owner`` is the backend's."""

    pointer: int
    size: int
    owner: Any = None


@dataclass(frozen=True, slots=True)
class Pinned:
    """Memory of the host that the GPU reaches by itself.

    Args:
        array: the memory, one unsigned byte an element.
        pointer: where the GPU sees it; 0 where it cannot map it.
        owner: the backend's.
    """

    array: Array
    pointer: int
    owner: Any = None


@dataclass(frozen=True, slots=True)
class Stream:
    """Work in order; ``handle`` is what TensorRT takes."""

    handle: int
    owner: Any = None


@dataclass(frozen=True, slots=True)
class Graph:
    """What was queued in a stream once, to be queued again in one call; ``owner`` as above."""

    owner: Any


@dataclass(frozen=True, slots=True)
class Event:
    """A moment in a stream."""

    owner: Any


class Cuda(Protocol):
    """What both backends do. Usable from any thread that called ``use`` once.

    Every method raises CudaError, and CudaMemoryError where memory is short.
    """

    name: str

    def use(self) -> None:
        """Make the device the calling thread's; cheap when it is already."""
        ...

    def describe(self) -> Device:
        """What the device is."""
        ...

    def memory(self) -> tuple[int, int]:
        """Free and total memory of the device."""
        ...

    def alloc(self, size: int) -> Buffer:
        """Memory of the device, at least one byte."""
        ...

    def free(self, buffer: Buffer) -> None:
        """Give it back; nothing may use it any more."""
        ...

    def pin(self, size: int) -> Pinned:
        """Pinned memory of the host, mapped where the device can."""
        ...

    def unpin(self, pinned: Pinned) -> None:
        """Give it back; nothing may use it or its array any more."""
        ...

    def stream(self) -> Stream:
        """A stream that does not wait for the default one."""
        ...

    def close_stream(self, stream: Stream) -> None:
        """Give it back."""
        ...

    def sync(self, stream: Stream) -> None:
        """Wait until everything in it is done; errors of that work are raised here."""
        ...

    def copy_in(self, buffer: Buffer, array: Array, stream: Stream) -> None:
        """Copy a C-contiguous array to the start of ``buffer``; neither may change until synced."""
        ...

    def copy_out(self, array: Array, buffer: Buffer, stream: Stream) -> None:
        """Fill a C-contiguous array from the start of ``buffer``; valid once synced."""
        ...

    def begin_capture(self, stream: Stream) -> None:
        """From now on note what this thread queues in the stream, and do none of it.

        Raises:
            CudaError: the backend or the driver cannot.
        """
        ...

    def end_capture(self, stream: Stream) -> Graph:
        """What was noted; to be called after every ``begin_capture``.

        Raises:
            CudaError: something was queued that cannot be noted. The stream is usable again.
        """
        ...

    def launch(self, graph: Graph, stream: Stream) -> None:
        """Queue it all: the same copies between the same addresses."""
        ...

    def close_graph(self, graph: Graph) -> None:
        """Give it back."""
        ...

    def event(self) -> Event:
        """An event that takes times."""
        ...

    def close_event(self, event: Event) -> None:
        """Give it back."""
        ...

    def record(self, event: Event, stream: Stream) -> None:
        """Put the event behind what is in the stream."""
        ...

    def wait(self, event: Event) -> None:
        """Wait until it has happened."""
        ...

    def elapsed_ms(self, start: Event, end: Event) -> float:
        """Milliseconds between two events that have happened."""
        ...


def driver_problem(open_library: Callable[[str], Any] = ctypes.CDLL) -> str:
    """Why no GPU can be used here; empty when one can. Never raises.

    To be asked before any package that would crash without a driver.

    Args:
        open_library: how the driver's library is opened; raises OSError where it is not there.
    """
    try:
        library = open_library(DRIVER)
    except OSError:
        return f"no NVIDIA driver is installed ({DRIVER} is not there)"
    try:
        count = ctypes.c_int()
        status = library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count))
    except AttributeError as exc:
        return f"{DRIVER} is not an NVIDIA driver ({exc})"
    if not status and not count.value:
        status = _NO_DEVICE
    if not status:
        return ""
    words = _NAMES.get(status, "see the driver API's list of errors")
    return f"the NVIDIA driver does not start: {words} (status {status})"


def open_cuda(device: int = 0) -> Cuda:
    """The first backend that is there.

    Args:
        device: which GPU, as CUDA counts.

    Raises:
        LoadError: no driver, no GPU of that number, or neither package; says what to install.
    """
    if problem := driver_problem():
        raise LoadError(problem)
    problems: list[str] = []
    for create in (_bindings, _pycuda):
        try:
            return create(device)
        except ImportError as exc:
            problems.append(f"{exc}" if "No module" in str(exc) else f"does not import: {exc}")
        except OSError as exc:
            problems.append(f"does not load: {exc.strerror or 'a library is missing'}")
        except CudaError as exc:
            problems.append(exc.message)
    raise LoadError(
        f"CUDA cannot be used from Python: cuda-bindings: {problems[0]}; pycuda: {problems[1]}; "
        'install the first: pip install "edged[tensorrt]"'
    )


def _bindings(device: int) -> Cuda:
    from edged.runtimes.cuda_bindings import CudaBindings  # noqa: PLC0415 - only what is used

    return CudaBindings(device)


def _pycuda(device: int) -> Cuda:
    from edged.runtimes.cuda_pycuda import PyCuda  # noqa: PLC0415

    return PyCuda(device)


def version_words(number: int) -> str:
    """CUDA's number of a version, 1000 to a major and 10 to a minor one, as people write it."""
    return f"{number // 1000}.{number % 1000 // 10}"


def flat(array: Array) -> Array:
    """The array's memory as one row, to be copied as it lies.

    Raises:
        CudaError: it is not contiguous; copying from or to it would move other bytes.
    """
    if not array.flags.c_contiguous:
        raise CudaError("an array for a copy must be C-contiguous; pass a copy of it")
    return array.reshape(-1)


def check_room(array: Array, buffer: Buffer) -> None:
    """Raise CudaError when an array does not fit its buffer: the GPU would write past its end."""
    if array.nbytes > buffer.size:
        raise CudaError(f"a copy of {array.nbytes} bytes does not fit a buffer of {buffer.size}")


quietly = contextlib.suppress(CudaError)
"""For giving back what a failed GPU may not take back any more."""
