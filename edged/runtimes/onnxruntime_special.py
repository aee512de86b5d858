"""Strings and bfloat16 to ONNX Runtime and back: NumPy has no such arrays as its binding wants.

Strings go in as text and come out as text, so both have to be UTF-8. Bytes that are not go in all
the same, unless one of them is zero, by the binding's way for NumPy's own byte strings: it copies
each up to the first zero byte. It is given one byte more than the longest has, for it reads on
into the next element where no zero stops it (seen with 1.32).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edged.errors import EdgedError, LoadError, RunError, TensorMismatchError
from edged.runtimes.base import Artefact
from edged.runtimes.onnxruntime import OnnxSession, backend_module, run_failed
from edged.strings import strings
from edged.tensors import BFLOAT16, Array

_BFLOAT16 = 16
"""``TensorProto.BFLOAT16``."""
_PADDED_BYTES = 64 << 20
"""Byte strings are padded to the longest: one long element among many would take it many times."""


class SpecialSession(OnnxSession):
    """A loaded model some of whose tensors are strings or bfloat16; it has no bound runs.

    Raises:
        LoadError: it takes both, for which the binding has no one way.
    """

    def __init__(self, session: Any, artefact: Artefact, *more: Any) -> None:
        super().__init__(session, artefact, *more)
        if {"string", "bfloat16"} <= {spec.dtype for spec in self.inputs}:
            raise LoadError(
                f"{self._where} takes strings and bfloat16: the Python binding of ONNX Runtime "
                "gives a model one or the other; cast inside the model"
            )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """As ``OnnxSession.run``.

        Raises:
            RunError: the model failed, or gave strings that cannot be handed over.
            TensorMismatchError: strings that it cannot be given.
        """
        session = self._session
        if session is None:
            raise RunError(f"{self._where}: the session is closed")
        names = self._names
        is_by_value = any(one.dtype == "bfloat16" for one in (*self.inputs, *self.outputs))
        try:
            if is_by_value:
                values = run_by_value(backend_module(), session, names, inputs, self._options)
            else:
                given = {name: given_array(name, array) for name, array in inputs.items()}
                values = session.run(names, given, self._options)
            return {name: taken_array(value) for name, value in zip(names, values, strict=True)}
        except EdgedError:
            raise
        except UnicodeDecodeError as exc:
            raise RunError(
                f"{self._where} gave a string that is no UTF-8, which the Python binding of "
                f"ONNX Runtime cannot hand over: {exc}"
            ) from exc
        except Exception as exc:
            raise run_failed(self._where, exc, session) from exc

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """None: the binding takes neither type from memory of ours."""
        del inputs, outputs


def given_array(name: str, array: Array) -> Array:
    """An input as the binding takes it.

    Raises:
        TensorMismatchError: strings that it cannot be given.
    """
    if array.dtype.kind != "O":
        return array
    values = array.reshape(-1).tolist()
    try:
        given: Array = np.array([one.decode() for one in values] or [""], object)[: len(values)]
    except UnicodeDecodeError:
        given = _padded(name, values)
    shaped: Array = given.reshape(array.shape)
    return shaped


def _padded(name: str, values: Sequence[bytes]) -> Array:
    width = max(map(len, values)) + 1
    for index, one in enumerate(values):
        if b"\0" in one:
            raise TensorMismatchError(
                f'input "{name}", string {index}: ONNX Runtime takes bytes that are no UTF-8 only '
                "where none of them is zero"
            )
    if width * len(values) > _PADDED_BYTES:
        raise TensorMismatchError(
            f'input "{name}": {len(values)} strings that are no UTF-8, padded to the longest, take '
            f"{width * len(values)} bytes; the limit is {_PADDED_BYTES}"
        )
    return np.array(values, f"S{width}")


def run_by_value(
    backend: Any, session: Any, names: Sequence[str], inputs: Mapping[str, Array], options: Any
) -> list[Any]:
    """Run with values of the backend's own, which know bfloat16; returns what it gave."""
    make = backend.OrtValue
    values = {}
    for name, array in inputs.items():
        if array.dtype == BFLOAT16:
            # It keeps the address alone: the arrays outlive the run below.
            if not hasattr(make, "ortvalue_from_numpy_with_onnx_type"):
                raise RunError(
                    f"onnxruntime {backend.__version__} takes no bfloat16 from Python: install a "
                    "newer one, or cast inside the model"
                )
            bits = np.ascontiguousarray(array).view(np.uint16)
            values[name] = make.ortvalue_from_numpy_with_onnx_type(bits, _BFLOAT16), bits
        else:
            given = np.ascontiguousarray(given_array(name, array))
            values[name] = make.ortvalue_from_numpy(given), given
    feeds = {name: value for name, (value, _) in values.items()}
    return list(session.run_with_ort_values(names, feeds, options))


def taken_array(value: Any) -> Array:
    """An output as the rest of the house has it; a value of the backend's is copied."""
    if not isinstance(value, np.ndarray):
        if value.data_type() == "tensor(bfloat16)":
            return _bits(value)
        value = value.numpy()
    array: Array = value
    if array.dtype.kind != "O":
        return array
    return strings([one.encode() for one in array.reshape(-1).tolist()], array.shape)


def _bits(value: Any) -> Array:
    shape = tuple(value.shape())
    found = np.empty(shape, BFLOAT16)
    if found.size:
        ctypes.memmove(found.ctypes.data, value.data_ptr(), found.nbytes)
    return found
