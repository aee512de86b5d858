"""A loaded engine, and the lanes that its runs go through.

Each run has a lane of its own: a context, a stream, and buffers for the largest shapes. There are
as many lanes as runs at once, up to a limit; further runs wait. Copies go through pinned memory,
which the GPU fetches by itself.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edged.errors import LoadError, RunError
from edged.runtimes.base import Artefact
from edged.runtimes.cuda import Buffer, Cuda, CudaError, Pinned, Stream
from edged.runtimes.engine import Engine, Io
from edged.runtimes.signature import check_fit, check_names
from edged.runtimes.tensorrt_api import TensorRt, Words, make_logger
from edged.tensors import DTYPES, Array, TensorSpec

_NARROWED = {"int64": "int32"}
"""TensorRT 8 has no 64-bit integers and computes in 32; values that do not fit are refused."""


@dataclass(slots=True)
class _Tensor:
    """One input or output within a lane."""

    io: Io
    buffer: Buffer
    pinned: Pinned


class _Lane:
    """A context with a stream, and buffers for the largest shapes."""

    def __init__(
        self, cuda: Cuda, context: Any, io: Sequence[Io], sizes: Mapping[str, int]
    ) -> None:
        self._cuda = cuda
        self.context = context
        self.stream: Stream = cuda.stream()
        self.tensors: dict[str, _Tensor] = {}
        try:
            for one in io:
                buffer = cuda.alloc(sizes[one.name])
                try:
                    pinned = cuda.pin(sizes[one.name])
                except CudaError:
                    cuda.free(buffer)
                    raise
                self.tensors[one.name] = _Tensor(one, buffer, pinned)
                context.set_tensor_address(one.name, buffer.pointer)
        except CudaError:
            self.close()
            raise

    def close(self) -> None:
        """Give everything back."""
        for tensor in self.tensors.values():
            _quietly(self._cuda.unpin, tensor.pinned)
            _quietly(self._cuda.free, tensor.buffer)
        self.tensors = {}
        _quietly(self._cuda.close_stream, self.stream)
        self.context = None


def _quietly(call: Callable[[Any], None], what: Any) -> None:
    try:
        call(what)
    except CudaError:
        # A GPU that failed takes nothing back; the process that holds it has to end.
        return


class TensorRtSession:
    """A loaded engine. ``run`` may be called from several threads at once.

    Args:
        trt: the package.
        cuda: the device.
        engine: checked for this machine.
        artefact: the promise.
        lanes: most runs at once.
    """

    def __init__(
        self, trt: TensorRt, cuda: Cuda, engine: Engine, artefact: Artefact, lanes: int
    ) -> None:
        self._where = f'model "{artefact.model}"'
        self._trt = trt
        self._cuda = cuda
        self._words = Words()
        self._logger = make_logger(trt, self._words)
        self.fingerprint = engine.fingerprint
        self._runtime = trt.module.Runtime(self._logger)
        loaded = self._runtime.deserialize_cuda_engine(engine.plan)
        if loaded is None:
            raise LoadError(f"{self._where}: {trt.words} refuses the engine: {self._words.said()}")
        self._engine: Any = loaded
        io = engine.fingerprint.io
        self._io = {one.name: one for one in io}
        self.inputs = self._match("input", artefact.inputs, [one for one in io if one.is_input])
        outs = [one for one in io if not one.is_input]
        self.outputs = self._match("output", artefact.outputs, outs)
        self._guard = threading.Condition()
        self._idle: list[_Lane] = []
        self._most = max(1, lanes)
        self._made = 0
        self._is_closed = False
        self._sizes: dict[str, int] = {}
        first = self._new_lane()
        self._made = 1
        self._idle.append(first)

    def _match(
        self, side: str, promised: Sequence[TensorSpec], found: Sequence[Io]
    ) -> tuple[TensorSpec, ...]:
        by_name = {one.name: one for one in found}
        check_names(self._where, side, promised, by_name)
        specs = []
        for spec in promised:
            one = by_name[spec.name]
            dtype = spec.dtype if _NARROWED.get(spec.dtype) == one.dtype else one.dtype
            # A free axis has no name in an engine; the promise has.
            shape = tuple(
                wanted
                if length == -1 and isinstance(wanted, str)
                else f"axis_{index}"
                if length == -1
                else length
                for index, (length, wanted) in enumerate(
                    zip(one.shape, (*spec.shape, *one.shape[len(spec.shape) :]), strict=False)
                )
            )
            have = TensorSpec(spec.name, dtype, shape)
            check_fit(self._where, side, spec, have)
            specs.append(have)
        return tuple(specs)

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Nothing: what a run reads and writes lies on the GPU."""
        del inputs, outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch.

        Raises:
            RunError: the inputs do not fit what the engine was built for, or the GPU failed.
        """
        try:
            self._cuda.use()
            lane = self._take()
            try:
                return self._run(lane, inputs)
            finally:
                self._give(lane)
        except CudaError as exc:
            raise RunError(f"{self._where} failed while running: {exc.message}") from exc

    def _run(self, lane: _Lane, inputs: Mapping[str, Array]) -> dict[str, Array]:
        context, stream = lane.context, lane.stream
        self._words.clear()
        for spec in self.inputs:
            array = self._fitting(spec, inputs)
            tensor = lane.tensors[spec.name]
            if not context.set_input_shape(spec.name, tuple(array.shape)):
                raise self._failed(
                    f'input "{spec.name}" {tuple(array.shape)}: {self._words.said()}'
                )
            room = _view(tensor, array.dtype, array.shape)
            np.copyto(room, array)
            self._cuda.copy_in(tensor.buffer, room, stream)
        if unset := context.infer_shapes():
            raise self._failed(f"shapes of {', '.join(unset)} are not known")
        if not context.execute_async_v3(stream.handle):
            raise self._failed(self._words.said())
        rooms = {}
        for spec in self.outputs:
            tensor = lane.tensors[spec.name]
            shape = tuple(int(n) for n in context.get_tensor_shape(spec.name))
            rooms[spec.name] = _view(tensor, DTYPES[tensor.io.dtype].numpy, shape)
            self._cuda.copy_out(rooms[spec.name], tensor.buffer, stream)
        self._cuda.sync(stream)
        return {
            spec.name: rooms[spec.name].astype(DTYPES[spec.dtype].numpy) for spec in self.outputs
        }

    def _fitting(self, spec: TensorSpec, inputs: Mapping[str, Array]) -> Array:
        """An input as the engine takes it.

        Raises:
            RunError: missing, another dtype or rank, outside the built range, or numbers too large.
        """
        array = inputs.get(spec.name)
        one = self._io[spec.name]
        if array is None or len(inputs) != len(self.inputs):
            wanted = ", ".join(f'"{each.name}"' for each in self.inputs)
            raise self._failed(f"it takes {wanted}")
        if array.dtype != DTYPES[spec.dtype].numpy or array.ndim != len(one.shape):
            raise self._failed(
                f'input "{spec.name}" is {array.dtype}{list(array.shape)}, not {spec}'
            )
        low, high = (one.range[0], one.range[2]) if one.range else (one.shape, one.shape)
        if not all(a <= n <= b for a, n, b in zip(low, array.shape, high, strict=True)):
            raise self._failed(
                f'input "{spec.name}" is {list(array.shape)}; the engine was built for '
                f"{list(low)} to {list(high)}"
            )
        if spec.dtype != one.dtype:
            narrow = array.astype(DTYPES[one.dtype].numpy)
            if not np.array_equal(narrow, array):
                raise self._failed(
                    f'input "{spec.name}" has numbers that {one.dtype} does not hold'
                )
            return narrow
        return array

    def close(self) -> None:
        """Give back what the session holds; lanes in use go when their run ends."""
        with self._guard:
            if self._is_closed:
                return
            self._is_closed = True
            lanes, self._idle = self._idle, []
            self._guard.notify_all()
        self._cuda.use()
        for lane in lanes:
            lane.close()
        if len(lanes) == self._made:
            self._engine = None

    def _take(self) -> _Lane:
        with self._guard:
            while True:
                if self._is_closed:
                    raise self._failed("the session is closed")
                if self._idle:
                    return self._idle.pop()
                if self._made < self._most:
                    self._made += 1
                    break
                self._guard.wait()
        try:
            return self._new_lane()
        except BaseException:
            with self._guard:
                self._made -= 1
                self._guard.notify()
            raise

    def _give(self, lane: _Lane) -> None:
        with self._guard:
            if not self._is_closed:
                self._idle.append(lane)
                self._guard.notify()
                return
        lane.close()

    def _new_lane(self) -> _Lane:
        context = self._engine.create_execution_context()
        if context is None:
            raise LoadError(
                f"{self._where}: {self._trt.words} gives no context: {self._words.said()}"
            )
        if not self._sizes:
            self._sizes = self._largest(context)
        return _Lane(self._cuda, context, list(self._io.values()), self._sizes)

    def _largest(self, context: Any) -> dict[str, int]:
        """Bytes of every tensor at the largest shapes of the inputs."""
        for one in self._io.values():
            if one.range:
                context.set_input_shape(one.name, one.range[2])
        sizes = {}
        for one in self._io.values():
            shape = [int(n) for n in context.get_tensor_shape(one.name)]
            if -1 in shape:
                raise LoadError(
                    f'{self._where}: how long output "{one.name}" is depends on the data; '
                    "TensorRT engines with such outputs are not supported: use onnxruntime"
                )
            sizes[one.name] = math.prod(shape) * DTYPES[one.dtype].size_bytes
        return sizes

    def _failed(self, why: str) -> RunError:
        return RunError(f"{self._where} failed while running: {why}")


def _view(tensor: _Tensor, dtype: np.dtype[Any], shape: Sequence[int]) -> Array:
    """The start of a pinned buffer as an array."""
    size = math.prod(shape) * dtype.itemsize
    return tensor.pinned.array[:size].view(dtype).reshape(shape)
