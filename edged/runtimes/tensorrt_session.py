"""A loaded engine, and the lanes that its runs go through.

There are as many lanes (``tensorrt_lane.py``) as runs at once, up to a limit; further runs wait. A
batch of more rows than the engine was built for is run in parts, and one of fewer than it takes is
filled up: what the rows of a batch hold does not reach one another.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edged.errors import LoadError, RunError
from edged.runtimes.base import Artefact
from edged.runtimes.cuda import Cuda, CudaError
from edged.runtimes.engine import Engine, Io
from edged.runtimes.loss import run_error
from edged.runtimes.signature import check_fit, check_names
from edged.runtimes.tensorrt_api import TensorRt, Words, make_logger
from edged.runtimes.tensorrt_lane import Lane, is_mapped
from edged.runtimes.tensorrt_profiles import Part, parts_of, profiles_of
from edged.tensors import DTYPES, Array, TensorSpec

_NARROWED = {"int64": "int32"}
"""TensorRT 8 has no 64-bit integers and computes in 32; values that do not fit are refused."""
_CLOSED = {"engine_host_code_allowed": False, "tempfile_control_flags": 0}
"""Ways for a plan to bring code of its own along, which TensorRT for RTX may not have at all."""


class TensorRtSession:
    """A loaded engine. ``run`` may be called from several threads at once.

    Args:
        trt: the package.
        cuda: the device.
        engine: checked for this machine.
        artefact: the promise.
        lanes: most runs at once.
        has_graphs: whether CUDA graphs are tried.

    Raises:
        LoadError: TensorRT refuses it, or it is not what was promised.
        CudaError: there is no memory for it.
    """

    def __init__(
        self,
        trt: TensorRt,
        cuda: Cuda,
        engine: Engine,
        artefact: Artefact,
        lanes: int,
        *,
        has_graphs: bool = True,
    ) -> None:
        self._where = f'model "{artefact.model}"'
        self._trt = trt
        self._cuda = cuda
        self._words = Words()
        self._logger = make_logger(trt, self._words)
        self.fingerprint = engine.fingerprint
        self._runtime = self._make_runtime(engine.fingerprint.options.dla)
        loaded = self._runtime.deserialize_cuda_engine(engine.plan)
        if loaded is None:
            raise LoadError(f"{self._where}: {trt.words} refuses the engine: {self._words.said()}")
        self._engine: Any = loaded
        io = engine.fingerprint.io
        self._io = {one.name: one for one in io}
        self.inputs = self._match("input", artefact.inputs, [one for one in io if one.is_input])
        outs = [one for one in io if not one.is_input]
        self.outputs = self._match("output", artefact.outputs, outs)
        self._profiles = profiles_of(io)
        self._is_row_wise = all(spec.is_batched for spec in (*self.inputs, *self.outputs))
        self._is_mapped = is_mapped(cuda.describe())
        self._has_graphs = has_graphs
        self._guard = threading.Condition()
        self._idle: list[Lane] = []
        self._most = max(1, lanes)
        self._made = 0
        self._is_closed = False
        self._idle.append(self._new_lane())
        self._made = 1

    def _make_runtime(self, dla: int) -> Any:
        """What loads plans: it may not run code that lies in one beside the engine itself."""
        runtime = self._trt.module.Runtime(self._logger)
        for name, value in _CLOSED.items():
            if hasattr(runtime, name):
                setattr(runtime, name, value)
        if dla >= 0:
            if dla >= (there := int(runtime.num_DLA_cores)):
                raise LoadError(
                    f"{self._where}: the engine is for core {dla} of a deep learning accelerator; "
                    f"this device has {there}"
                )
            runtime.DLA_core = dla
        return runtime

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
        """Nothing: what a run reads and writes is the lane's own memory."""
        del inputs, outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch.

        Raises:
            RunError: the inputs do not fit what the engine was built for, or the GPU failed.
        """
        fitting = {spec.name: self._fitting(spec, inputs) for spec in self.inputs}
        parts = self._parts(fitting)
        try:
            self._cuda.use()
            lane = self._take()
            try:
                if parts is None:
                    return self._answers(lane.run(fitting))
                return self._run_parts(lane, fitting, parts)
            finally:
                self._give(lane)
        except RunError as exc:
            raise self._failed(exc.message) from exc
        except CudaError as exc:
            raise self._failed(exc.message) from exc

    def _answers(self, found: Mapping[str, Array], rows: int | None = None) -> dict[str, Array]:
        """Copies that the caller may keep, of the promised types."""
        return {
            spec.name: found[spec.name][:rows].astype(DTYPES[spec.dtype].numpy)
            if rows is not None
            else found[spec.name].astype(DTYPES[spec.dtype].numpy)
            for spec in self.outputs
        }

    def _parts(self, inputs: Mapping[str, Array]) -> list[Part] | None:
        """How to cut a batch; None where it goes as it is."""
        if not self._is_row_wise:
            return None
        rows = {len(array) for array in inputs.values()}
        if len(rows) > 1 or not (count := rows.pop()):
            return None
        ends = [
            (low[0], high[0])
            for profile in self._profiles
            for low, high in list(profile.ends.values())[:1]
        ]
        if any(low <= count <= high for low, high in ends):
            return None
        return parts_of(count, ends)

    def _run_parts(
        self, lane: Lane, inputs: Mapping[str, Array], parts: Sequence[Part]
    ) -> dict[str, Array]:
        at, pieces = 0, []
        for part in parts:
            piece = {name: array[at : at + part.rows] for name, array in inputs.items()}
            if part.run_as > part.rows:
                more = part.run_as - part.rows
                # The last row again: zeros might be numbers that the model does not take.
                piece = {
                    name: np.concatenate([array, np.repeat(array[-1:], more, axis=0)])
                    for name, array in piece.items()
                }
            pieces.append(self._answers(lane.run(piece), part.rows))
            at += part.rows
        if len(pieces) == 1:
            return pieces[0]
        return {
            spec.name: np.concatenate([piece[spec.name] for piece in pieces])
            for spec in self.outputs
        }

    def _fitting(self, spec: TensorSpec, inputs: Mapping[str, Array]) -> Array:
        """An input as the engine takes it, but for the number of its rows.

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
        first = 1 if self._is_row_wise and len(array) else 0
        if not all(
            a <= n <= b
            for a, n, b in zip(low[first:], array.shape[first:], high[first:], strict=True)
        ):
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

    def _take(self) -> Lane:
        while True:
            with self._guard:
                while not self._idle and self._made >= self._most and not self._is_closed:
                    self._guard.wait()
                if self._is_closed:
                    raise RunError("the session is closed")
                if self._idle:
                    return self._idle.pop()
                self._made += 1
            try:
                return self._new_lane()
            except (CudaError, LoadError):
                # With the lanes that are there it goes on, one run after another.
                with self._guard:
                    self._made -= 1
                    self._most = self._made
            except BaseException:
                with self._guard:
                    self._made -= 1
                    self._guard.notify()
                raise

    def _give(self, lane: Lane) -> None:
        with self._guard:
            if not self._is_closed:
                self._idle.append(lane)
                self._guard.notify()
                return
        lane.close()

    def _new_lane(self) -> Lane:
        context = self._engine.create_execution_context()
        if context is None:
            raise LoadError(
                f"{self._where}: {self._trt.words} gives no context: {self._words.said()}"
            )
        return Lane(
            self._cuda,
            context,
            list(self._io.values()),
            self._profiles,
            self._words,
            is_mapped=self._is_mapped,
            has_graphs=self._has_graphs,
        )

    def _failed(self, why: str) -> RunError:
        return run_error(f"{self._where} failed while running: {why}")
