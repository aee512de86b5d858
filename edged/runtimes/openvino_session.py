"""A compiled OpenVINO model, and its runs; ``openvino.py`` makes it.

Decides whether inputs are what the model takes, because the package would cast and reshape them, or
narrow them without a word. A run copies its inputs into a request of its own and its outputs out of
it; a bound run works on the caller's memory.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edged.errors import RunError
from edged.runtimes.loss import run_error
from edged.runtimes.onnxruntime import clean
from edged.tensors import DTYPES, Array, TensorSpec

_WHERE = re.compile(r"(?:Exception from|Check '.*?' failed at) \S+:\d+:?")
_NARROWED = {np.dtype(np.int64), np.dtype(np.uint64)}
"""Computed in 32 bits."""
_INT32 = np.iinfo(np.int32)


class OpenVinoSession:
    """A compiled model. ``run`` may be called from several threads at once.

    Args:
        backend: the package.
        compiled: the model.
        where: it, for messages.
        inputs: of the file, in the promised order.
        outputs: likewise.
    """

    def __init__(
        self,
        backend: Any,
        compiled: Any,
        where: str,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
    ) -> None:
        self._where = where
        self.inputs, self.outputs = inputs, outputs
        self._backend = backend
        self._compiled = compiled
        self._ins = [
            _Input(index_of(compiled.inputs, spec.name), spec, DTYPES[spec.dtype].numpy)
            for spec in inputs
        ]
        self._outs = [(spec.name, index_of(compiled.outputs, spec.name)) for spec in outputs]
        self._idle: list[Any] = []
        self._bound: weakref.WeakSet[OpenVinoBoundRun] = weakref.WeakSet()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch; outputs come in the order of the artefact's signature.

        Raises:
            RunError: the inputs do not fit, or the model failed on them; the session stays usable.
        """
        arrays = self._fitting(inputs)
        try:
            request = self._take()
            # A request that failed is not used again: its tensors have odd shapes.
            for one, array in zip(self._ins, arrays, strict=True):
                tensor = request.get_input_tensor(one.index)
                room = tensor.data
                if room.shape != array.shape:
                    tensor.shape = array.shape
                    room = tensor.data
                room[...] = array
            request.infer(share_inputs=True, share_outputs=True)
            outputs = {
                name: np.array(request.get_output_tensor(index).data) for name, index in self._outs
            }
        except Exception as exc:
            raise self._failed(said(exc)) from exc
        self._idle.append(request)
        if self._compiled is None:
            self._idle.clear()
        return outputs

    def bind(
        self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> OpenVinoBoundRun | None:
        """Fix where runs read and write, so that nothing is copied.

        None where the package does not take that memory, or where inputs have to be looked at
        before each run.

        Raises:
            RunError: these tensors cannot be bound.
        """
        if self._compiled is None:
            raise RunError(f"{self._where}: the session is closed")
        arrays = self._fitting(inputs)
        if any(array.dtype in _NARROWED for array in arrays) or not all(
            array.flags.carray for array in (*arrays, *outputs.values())
        ):
            return None
        try:
            request = self._take()
            for one, array in zip(self._ins, arrays, strict=True):
                tensor = self._backend.Tensor(array, shared_memory=True)
                request.set_input_tensor(one.index, tensor)
            written = []
            for name, index in self._outs:
                tensor = self._backend.Tensor(outputs[name], shared_memory=True)
                request.set_output_tensor(index, tensor)
                written.append((tensor, self._backend.Shape(outputs[name].shape)))
        except Exception as exc:
            raise RunError(f"{self._where}: cannot bind its tensors: {said(exc)}") from exc
        bound = OpenVinoBoundRun(self._where, request, written, (inputs, outputs))
        self._bound.add(bound)
        return bound

    def close(self) -> None:
        """Let go of the model; it goes when the last run in progress ends."""
        self._compiled = None
        self._idle.clear()
        for bound in self._bound:
            bound.drop()

    def _take(self) -> Any:
        """A request that nobody uses. As many are made as runs were ever at work at once."""
        compiled = self._compiled
        if compiled is None:
            raise ValueError("the session is closed")
        try:
            return self._idle.pop()
        except IndexError:
            return compiled.create_infer_request()

    def _fitting(self, inputs: Mapping[str, Array]) -> list[Array]:
        """The inputs in the order of the signature; the package itself would cast and reshape."""
        if len(inputs) != len(self._ins):
            wanted = ", ".join(f'"{one.spec.name}"' for one in self._ins)
            raise self._failed(f"it takes {wanted}")
        arrays = []
        for one in self._ins:
            array = inputs.get(one.spec.name)
            if array is None:
                raise self._failed(f'input "{one.spec.name}" is missing')
            if array.dtype != one.dtype or not _has_shape(array, one.spec):
                raise self._failed(
                    f'input "{one.spec.name}" is {array.dtype}{list(array.shape)}, not {one.spec}'
                )
            if one.is_narrowed and array.size and not _fits_int32(array):
                raise self._failed(
                    f'input "{one.spec.name}" has numbers that int32 does not hold, in which '
                    "openvino computes; name the runtime onnxruntime for it"
                )
            arrays.append(array)
        return arrays

    def _failed(self, why: str) -> RunError:
        return run_error(f"{self._where} failed while running: {why}")


class _Input:
    """One input: which one it is to the package, and what it takes."""

    __slots__ = ("dtype", "index", "is_narrowed", "spec")

    def __init__(self, index: int, spec: TensorSpec, dtype: np.dtype[Any]) -> None:
        self.index, self.spec, self.dtype = index, spec, dtype
        self.is_narrowed = dtype in _NARROWED


class OpenVinoBoundRun:
    """A run with its tensors bound; made by ``OpenVinoSession.bind``.

    Args:
        where: the model, for messages.
        request: with all its tensors set.
        written: each output, and the shape it must have after a run.
        keep: whose memory is bound.
    """

    def __init__(
        self, where: str, request: Any, written: list[tuple[Any, Any]], keep: tuple[object, ...]
    ) -> None:
        self._where = where
        self._request: Any = request
        self._written = written
        self._keep = keep

    def run(self) -> None:
        """Read the inputs, write the outputs.

        Raises:
            RunError: the model failed, or its outputs have other shapes.
        """
        request = self._request
        if request is None:
            raise RunError(f"{self._where} failed while running: the session is closed")
        try:
            request.infer(share_inputs=True, share_outputs=True)
            # A smaller output is written to the start of its memory without a word.
            is_wrong = any(tensor.shape != shape for tensor, shape in self._written)
        except Exception as exc:
            raise run_error(f"{self._where} failed while running: {said(exc)}") from exc
        if is_wrong:
            raise RunError(f"{self._where} failed while running: an output has another shape")

    def drop(self) -> None:
        """Let go of everything; a run in progress ends first, on what it holds."""
        self._request = None


def index_of(ports: Sequence[Any], name: str) -> int:
    """Which of some inputs or outputs has that name; a tensor has every name it had in any step."""
    return next(index for index, port in enumerate(ports) if name in port.names)


def _has_shape(array: Array, spec: TensorSpec) -> bool:
    return len(array.shape) == len(spec.shape) and all(
        have == want or isinstance(want, str)
        for have, want in zip(array.shape, spec.shape, strict=True)
    )


def _fits_int32(array: Array) -> bool:
    return bool(array.min() >= _INT32.min and array.max() <= _INT32.max)


def said(exc: BaseException | str) -> str:
    """The package's words without the places in its sources."""
    return clean(_WHERE.sub(" ", " ".join(str(exc).split())))
