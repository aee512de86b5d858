"""ONNX Runtime alone: what the daemon's answers are held against, bit by bit."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it looks when it is imported

import ml_dtypes
import numpy as np
import onnx
import onnxruntime

from tests.onnx_suite.cases import DTYPES, Array

_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    **{f"tensor({name})": name for name in DTYPES.values() if name not in ("float32", "float64")},
}
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


OFFSETS = (0, 4, 8, 12, 16, 32, 48)
"""From a multiple of 64 bytes; a tensor begins at a multiple of its element's size."""
FRAME_OFFSET = 8
"""Tensors of a frame begin at multiples of that, and at none of a vector's length for sure."""


class Raw:
    """A session on the processor with one thread, as the daemon makes it for a small model.

    Args:
        model: the bytes of the file.
    """

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [
            (one.name, _TYPES[one.type], one.shape) for one in self._session.get_inputs()
        ]
        self.outputs = [
            (one.name, _TYPES[one.type], one.shape) for one in self._session.get_outputs()
        ]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Answers in the order of the graph's outputs.

        Args:
            inputs: in the order of the graph's inputs.
        """
        names = [name for name, _, _ in self.inputs]
        feeds = dict(zip(names, inputs, strict=True))
        has_bfloat16 = any(kind == "bfloat16" for _, kind, _ in (*self.inputs, *self.outputs))
        return self._run_values(feeds) if has_bfloat16 else self._session.run(None, feeds)

    def answers(self, inputs: Sequence[Array]) -> list[list[Array]]:
        """Every answer that it gives to the same inputs, by where in memory tensors lie; most have one.

        Its vectorised loops begin at the first address that a vector may have, of what they read or
        of what they write, so that the last bit of some depends on the address. A server's tensors
        lie where they came in, and where its answer is put together.
        """
        found: list[list[Array]] = []
        for offset in OFFSETS:
            placed = [_placed(array, offset) for array in inputs]
            answers = [self.run(placed)]
            if self._has_numbers_only(answers[0]):
                answers.append(self._run_into(placed, answers[0]))
            for answer in answers:
                if not any(all(map(same, answer, other)) for other in found):
                    found.append(answer)
        return found

    def _has_numbers_only(self, outputs: Sequence[Array]) -> bool:
        """Whether all that it takes and gives can be bound: memory that NumPy has a name for."""
        kinds = {kind for _, kind, _ in (*self.inputs, *self.outputs)}
        return not kinds & {"string", "bfloat16"} and all(array.size for array in outputs)

    def _run_into(self, inputs: Sequence[Array], likely: Sequence[Array]) -> list[Array]:
        """The same with outputs that lie as those of a frame may; ``likely`` has their shapes."""
        outputs = [_placed(array, FRAME_OFFSET) for array in likely]
        binding = self._session.io_binding()
        for (name, _, _), array in zip(self.inputs, inputs, strict=True):
            place = np.ascontiguousarray(array)
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, place.ctypes.data)
        for (name, _, _), array in zip(self.outputs, outputs, strict=True):
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        self._session.run_with_iobinding(binding)
        return outputs

    def _run_values(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The way round NumPy, which knows no bfloat16."""
        values = {name: _value(array) for name, array in feeds.items()}
        outputs = self._session.run_with_ort_values(None, values)
        return [
            _bfloat16(value) if kind == "bfloat16" else value.numpy()
            for value, (_, kind, _) in zip(outputs, self.outputs, strict=True)
        ]


def _placed(array: Array, offset: int) -> Array:
    """The same values so many bytes behind a multiple of 64."""
    if array.dtype == object or offset % array.dtype.itemsize:
        return array
    room = np.empty(array.nbytes + 128, np.uint8)
    start = -room.ctypes.data % 64 + offset
    view = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def _value(array: Array) -> onnxruntime.OrtValue:
    make = onnxruntime.OrtValue
    if array.dtype == BFLOAT16:
        bits = np.ascontiguousarray(array).view(np.uint16)
        return make.ortvalue_from_numpy_with_onnx_type(bits, onnx.TensorProto.BFLOAT16)
    return make.ortvalue_from_numpy(np.ascontiguousarray(array))


def _bfloat16(value: onnxruntime.OrtValue) -> Array:
    shape = value.shape()
    size = 2 * int(np.prod(shape))
    data = ctypes.string_at(value.data_ptr(), size) if size else b""
    return np.frombuffer(data, BFLOAT16).reshape(shape)


def same(one: Array, other: Array) -> bool:
    """Whether two arrays are one, down to the bits of a NaN."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype == object:
        return bool(one.tolist() == other.tolist())
    return one.tobytes() == other.tobytes()
