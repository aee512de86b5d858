"""What a model costs on a device before anybody serves it: the backend's own bound loops.

Each loop takes its input from the host and gives its output to the host, for that is what a request
is; everything between is prepared once. ``ways`` gives several, and the best of them is the floor.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks import figures
from edged.runtimes.base import Artefact
from edged.runtimes.cuda import Buffer, Cuda, Pinned
from edged.runtimes.engine import Engine
from edged.runtimes.tensorrt_api import TensorRt, Words, make_logger
from edged.tensors import DTYPES, Array

Loop = Callable[[], Mapping[str, Array]]
"""One run, from the host to the host."""
WARM_UP = 5


def open_session(artefact: Artefact, providers: list[Any], threads: int = 1) -> Any:
    """A session on the very providers that the daemon's has, with the settings of the package."""
    import onnxruntime  # noqa: PLC0415 - a runtime imported it first, with its telemetry off

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        artefact.data, options, providers=providers, enable_fallback=0
    )


def ways(session: Any, word: str, artefact: Artefact, inputs: Mapping[str, Array]) -> list[Loop]:
    """Loops over one session, each with a binding of its own."""
    rows = len(next(iter(inputs.values())))
    outputs = {
        spec.name: ([rows, *spec.shape[1:]], DTYPES[spec.dtype].numpy) for spec in artefact.outputs
    }
    return [
        _in_place(session, word, inputs, outputs),
        _through_the_host(session, inputs, outputs),
    ]


Outputs = Mapping[str, tuple[list[Any], Any]]


def _in_place(session: Any, word: str, inputs: Mapping[str, Array], outputs: Outputs) -> Loop:
    """Values on the device, which stay bound."""
    from onnxruntime import OrtValue  # noqa: PLC0415

    binding = session.io_binding()
    given = {name: OrtValue.ortvalue_from_numpy(array, word, 0) for name, array in inputs.items()}
    made = {
        name: OrtValue.ortvalue_from_shape_and_type(shape, dtype.type, word, 0)
        for name, (shape, dtype) in outputs.items()
    }
    for name, value in given.items():
        binding.bind_ortvalue_input(name, value)
    for name, value in made.items():
        binding.bind_ortvalue_output(name, value)

    def run() -> Mapping[str, Array]:
        for name, value in given.items():
            value.update_inplace(inputs[name])
        session.run_with_iobinding(binding)
        return {name: value.numpy() for name, value in made.items()}

    return run


def _through_the_host(session: Any, inputs: Mapping[str, Array], outputs: Outputs) -> Loop:
    """Memory of the host, from which and to which the package copies."""
    made = {name: np.empty(shape, dtype) for name, (shape, dtype) in outputs.items()}
    binding = session.io_binding()

    def run() -> Mapping[str, Array]:
        for name, array in inputs.items():
            binding.bind_cpu_input(name, array)
        for name, array in made.items():
            at = array.ctypes.data
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, at)
        session.run_with_iobinding(binding)
        return made

    return run


class EngineLoop:
    """One context of an engine, run from pinned memory to pinned memory.

    Args:
        trt: the package.
        cuda: the device.
        engine: for it.
        inputs: copied in by every run.
    """

    def __init__(
        self, trt: TensorRt, cuda: Cuda, engine: Engine, inputs: Mapping[str, Array]
    ) -> None:
        self._cuda, self._inputs = cuda, inputs
        self._logger = make_logger(trt, Words())
        self._runtime = trt.module.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(engine.plan)
        self._context = context = self._engine.create_execution_context()
        self._stream = cuda.stream()
        self._held: dict[str, tuple[Buffer, Pinned]] = {}
        for name, array in inputs.items():
            context.set_input_shape(name, tuple(array.shape))
        self._rooms: dict[str, Array] = {}
        for one in engine.fingerprint.io:
            shape = tuple(int(n) for n in context.get_tensor_shape(one.name))
            dtype = DTYPES[one.dtype].numpy
            size = int(np.prod(shape)) * dtype.itemsize
            buffer, pinned = cuda.alloc(size), cuda.pin(size)
            self._held[one.name] = buffer, pinned
            self._rooms[one.name] = pinned.array[:size].view(dtype).reshape(shape)
            context.set_tensor_address(one.name, buffer.pointer)

    def __call__(self) -> Mapping[str, Array]:
        """One run; the arrays are written over by the next one."""
        cuda, stream = self._cuda, self._stream
        for name, array in self._inputs.items():
            np.copyto(self._rooms[name], array)
            cuda.copy_in(self._held[name][0], self._rooms[name], stream)
        if not self._context.execute_async_v3(stream.handle):
            raise RuntimeError("TensorRT did not run the engine")
        made = {name: room for name, room in self._rooms.items() if name not in self._inputs}
        for name, room in made.items():
            cuda.copy_out(room, self._held[name][0], stream)
        cuda.sync(stream)
        return made

    def close(self) -> None:
        """Give its memory back."""
        for buffer, pinned in self._held.values():
            self._cuda.unpin(pinned)
            self._cuda.free(buffer)
        self._held = {}
        self._cuda.close_stream(self._stream)


def p50_ms(loop: Loop, seconds: float) -> float:
    """Median time of a run."""
    for _ in range(WARM_UP):
        loop()
    taken = []
    until = time.perf_counter() + seconds
    while not taken or time.perf_counter() < until:
        began = time.perf_counter()
        loop()
        taken.append((time.perf_counter() - began) * 1e3)
    return figures.median(taken)


def runs_per_s(loops: list[Loop], seconds: float, use: Callable[[], None] = lambda: None) -> float:
    """Runs a second of loops side by side, each on a thread of its own.

    Args:
        loops: one a thread.
        seconds: for so long.
        use: called once on each thread.
    """
    counts = [0] * len(loops)
    start = threading.Barrier(len(loops) + 1)
    until = [float("inf")]
    errors: list[Exception] = []

    def work(index: int) -> None:
        try:
            use()
            loops[index]()
            start.wait()
            while time.perf_counter() < until[0]:
                loops[index]()
                counts[index] += 1
        except threading.BrokenBarrierError:
            return
        except Exception as exc:
            errors.append(exc)
            start.abort()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(loops))]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        start.wait()
    began = time.perf_counter()
    until[0] = began + seconds
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(counts) / (time.perf_counter() - began)
