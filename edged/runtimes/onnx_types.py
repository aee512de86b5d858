"""Which types the weights of an ONNX file have: a walk over the few messages that say it.

Pure. TensorRT has to be told before it reads a model whether it holds halves; the file says so, and
nothing else that a runtime is given does. Field numbers are those of ``onnx.proto``.
"""

from __future__ import annotations

from collections.abc import Iterator

FLOAT16 = 10
"""``TensorProto.FLOAT16``."""
_GRAPH, _INITIALIZER, _DATA_TYPE = 7, 5, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_SHIFT = 63


def weight_types(data: bytes) -> set[int]:
    """The ``data_type`` of every weight of the main graph; what is no protobuf message has none."""
    view = memoryview(data)
    found: set[int] = set()
    try:
        for number, graph in _fields(view):
            if number != _GRAPH or isinstance(graph, int):
                continue
            for inner, weight in _fields(graph):
                if inner != _INITIALIZER or isinstance(weight, int):
                    continue
                for field, value in _fields(weight):
                    if field == _DATA_TYPE and isinstance(value, int):
                        found.add(value)
    except (IndexError, ValueError):
        return set()  # the runtime will say what is wrong with it
    return found


def _fields(view: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Each field of a message: its number, and what it holds."""
    at, end = 0, len(view)
    while at < end:
        tag, at = _varint(view, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(view, at)
            yield tag >> 3, value
        elif wire == _BYTES:
            size, at = _varint(view, at)
            if size > end - at:
                raise ValueError("a field is longer than its message")
            yield tag >> 3, view[at : at + size]
            at += size
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"there is no wire type {wire}")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > _MOST_SHIFT:
            raise ValueError("a number is too long")
