"""One way through a loaded engine: a context with its stream, its buffers, and its graphs.

What was run with the same shapes before is launched as one CUDA graph, copies included: one call in
place of dozens. Its addresses are those of the lane's buffers, which stay where they are for as
long as the lane lives; other shapes are another graph. Where the device or the engine cannot be
captured, everything is queued anew each time.

On a chip that shares the machine's memory (a Jetson) the engine reads and writes the pinned memory
itself and nothing is copied. Used by one thread at a time.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edged.errors import LoadError, RunError
from edged.runtimes.cuda import Buffer, Cuda, CudaError, Device, Graph, Pinned, Stream
from edged.runtimes.engine import Io
from edged.runtimes.tensorrt_api import Words
from edged.runtimes.tensorrt_profiles import Profile, Shape, choose_profile
from edged.tensors import DTYPES, Array

log = logging.getLogger("edged.runtimes")

_WAYS = 16
"""Shapes that a lane keeps graphs for, the last used ones: each takes memory on the device, and a
daemon's batches have a few sizes."""
_COHERENT = (7, 2)
"""From this compute capability on (Xavier) an integrated GPU sees the processor's caches."""


def is_mapped(device: Device) -> bool:
    """Whether the GPU works in the machine's own memory as fast as in any."""
    major, minor = (int(part) for part in device.compute_capability.split("."))
    return device.is_integrated and (major, minor) >= _COHERENT


@dataclass(slots=True)
class _Tensor:
    """One input or output: pinned memory, and memory of the device where that is apart."""

    io: Io
    pinned: Pinned
    buffer: Buffer | None


@dataclass(slots=True)
class _Way:
    """What a run with certain shapes needs.

    Args:
        profile: the number of the profile it takes.
        shapes: of the inputs.
        rooms: where inputs are put and outputs found, in pinned memory.
        runs: how often it was queued piece by piece.
        graph: what replaces that.
        is_plain: whether it cannot be captured.
    """

    profile: int
    shapes: Mapping[str, Shape]
    rooms: dict[str, Array] = field(default_factory=dict)
    runs: int = 0
    graph: Graph | None = None
    is_plain: bool = False


class Lane:
    """See above.

    Args:
        cuda: the device.
        context: of the engine; nobody else uses it.
        io: tensors of the engine.
        profiles: of the engine.
        words: what TensorRT said.
        is_mapped: whether the device works in the machine's memory.
        has_graphs: whether they are tried.

    Raises:
        CudaError: there is no memory for it.
        LoadError: the engine cannot be run by this.
    """

    def __init__(
        self,
        cuda: Cuda,
        context: Any,
        io: Sequence[Io],
        profiles: Sequence[Profile],
        words: Words,
        *,
        is_mapped: bool,
        has_graphs: bool,
    ) -> None:
        self._cuda = cuda
        self._context = context
        self._profiles = profiles
        self._words = words
        self._has_graphs = has_graphs
        self._ways: OrderedDict[tuple[Shape, ...], _Way] = OrderedDict()
        self._set: _Way | None = None
        self._profile = 0
        self._inputs = [one for one in io if one.is_input]
        self._tensors: dict[str, _Tensor] = {}
        self._stream: Stream = cuda.stream()
        try:
            sizes = self._largest(io)
            for one in io:
                self._add(one, sizes[one.name], is_mapped=is_mapped)
        except BaseException:
            self.close()
            raise

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run once.

        Args:
            inputs: of the engine's own types; in any memory.

        Returns:
            Views of the lane's memory, by name: good until the next run.

        Raises:
            RunError: no profile holds the shapes, or TensorRT refuses.
            CudaError: the device failed.
        """
        self._words.clear()
        try:
            way = self._way({one.name: inputs[one.name].shape for one in self._inputs})
            for name in way.shapes:
                np.copyto(way.rooms[name], inputs[name])
            if way.graph is None or not self._launched(way, way.graph):
                self._run_plainly(way)
        except BaseException:
            # Nobody knows what the context holds now.
            self._set = None
            raise
        return {name: room for name, room in way.rooms.items() if name not in way.shapes}

    def _launched(self, way: _Way, graph: Graph) -> bool:
        try:
            self._cuda.launch(graph, self._stream)
        except CudaError as exc:
            self._give_up(way, exc.message)
            return False
        self._cuda.sync(self._stream)
        return True

    def _run_plainly(self, way: _Way) -> None:
        if self._set is not way:
            self._bind(way)
        if not self._queue(way):
            raise RunError(self._words.said())
        self._cuda.sync(self._stream)
        way.runs += 1
        # What comes once is not worth it; and before a capture TensorRT wants to have run so.
        if way.runs > 1 and self._has_graphs and not way.is_plain:
            self._capture(way)

    def _queue(self, way: _Way) -> bool:
        """Everything that a run is, in order; False where TensorRT refuses."""
        for name, room in way.rooms.items():
            buffer = self._tensors[name].buffer
            if name in way.shapes and buffer is not None:
                self._cuda.copy_in(buffer, room, self._stream)
        if not self._context.execute_async_v3(self._stream.handle):
            return False
        for name, room in way.rooms.items():
            buffer = self._tensors[name].buffer
            if name not in way.shapes and buffer is not None:
                self._cuda.copy_out(room, buffer, self._stream)
        return True

    def _capture(self, way: _Way) -> None:
        try:
            self._cuda.begin_capture(self._stream)
        except CudaError as exc:
            self._give_up(way, exc.message)
            return
        queued, why = False, ""
        try:
            queued = self._queue(way)
        except CudaError as exc:
            why = exc.message
        try:
            graph = self._cuda.end_capture(self._stream)
        except CudaError as exc:
            self._give_up(way, why or exc.message)
            return
        if not queued:
            self._cuda.close_graph(graph)
            self._give_up(way, why or self._words.said())
            return
        way.graph = graph

    def _give_up(self, way: _Way, why: str) -> None:
        """These shapes are queued piece by piece from now on."""
        way.is_plain = True
        self._drop(way)
        # What failed may have left the context in any state.
        self._set = None
        log.info("no CUDA graph for %s: %s", dict(way.shapes), why)

    def _drop(self, way: _Way) -> None:
        if way.graph is not None:
            quietly(self._cuda.close_graph, way.graph)
            way.graph = None

    def _way(self, shapes: Mapping[str, Shape]) -> _Way:
        key = tuple(shapes.values())
        way = self._ways.get(key)
        if way is not None:
            self._ways.move_to_end(key)
            return way
        profile = choose_profile(self._profiles, shapes)
        if profile is None:
            raise RunError(f"no profile of the engine holds {dict(shapes)}")
        way = _Way(profile.number, shapes)
        self._bind(way)
        for name, tensor in self._tensors.items():
            shape = shapes.get(name) or tuple(int(n) for n in self._context.get_tensor_shape(name))
            way.rooms[name] = _view(tensor, shape)
        self._ways[key] = way
        if len(self._ways) > _WAYS:
            self._drop(self._ways.popitem(last=False)[1])
        return way

    def _bind(self, way: _Way) -> None:
        """Make the context one of these shapes."""
        if way.profile != self._profile:
            if not self._context.set_optimization_profile_async(way.profile, self._stream.handle):
                raise RunError(f"profile {way.profile}: {self._words.said()}")
            self._cuda.sync(self._stream)
            self._profile = way.profile
        for name, shape in way.shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise RunError(f'input "{name}" {shape}: {self._words.said()}')
        if unset := self._context.infer_shapes():
            raise RunError(f"shapes of {', '.join(unset)} are not known")
        self._set = way

    def _largest(self, io: Sequence[Io]) -> dict[str, int]:
        """Bytes of every tensor at the largest shapes: those of the first profile."""
        for one in self._inputs:
            if one.range:
                self._context.set_input_shape(one.name, one.range[2])
        sizes = {}
        for one in io:
            shape = [int(n) for n in self._context.get_tensor_shape(one.name)]
            if -1 in shape:
                raise LoadError(
                    f'how long output "{one.name}" is depends on the data; TensorRT engines with '
                    "such outputs are not supported: use onnxruntime"
                )
            sizes[one.name] = math.prod(shape) * DTYPES[one.dtype].size_bytes
        return sizes

    def _add(self, one: Io, size: int, *, is_mapped: bool) -> None:
        pinned = self._cuda.pin(size)
        self._tensors[one.name] = tensor = _Tensor(one, pinned, None)
        if not (is_mapped and pinned.pointer):
            tensor.buffer = self._cuda.alloc(size)
        pointer = pinned.pointer if tensor.buffer is None else tensor.buffer.pointer
        self._context.set_tensor_address(one.name, pointer)

    def close(self) -> None:
        """Give everything back."""
        for way in self._ways.values():
            self._drop(way)
        self._ways.clear()
        for tensor in self._tensors.values():
            quietly(self._cuda.unpin, tensor.pinned)
            if tensor.buffer is not None:
                quietly(self._cuda.free, tensor.buffer)
        self._tensors = {}
        quietly(self._cuda.close_stream, self._stream)
        self._context = None


def quietly(call: Callable[[Any], None], what: Any) -> None:
    """Give something back; a GPU that failed takes nothing, and its process has to end."""
    try:
        call(what)
    except CudaError:
        return


def _view(tensor: _Tensor, shape: Shape) -> Array:
    """The start of a tensor's pinned memory as an array."""
    dtype = DTYPES[tensor.io.dtype].numpy
    size = math.prod(shape) * dtype.itemsize
    return tensor.pinned.array[:size].view(dtype).reshape(shape)
