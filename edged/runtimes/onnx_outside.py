"""Whether an ONNX file keeps weights in other files; for backends that would open those themselves.

A walk over the protobuf messages that tensors can lie in. The store looked closer at every bundle
(``store/onnx_check.py``); this holds for bytes from anywhere. Source: onnx.proto.
"""

from __future__ import annotations

_WITHIN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""Of each message, the fields that lead to a tensor."""
_EXTERNAL = 13
"""The field of a tensor that says where its bytes are."""
_SKIP = {1: 8, 5: 4}
"""Wire types of a fixed length, bytes."""


def keeps_weights_outside(data: bytes) -> bool:
    """Whether any tensor refers to a file.

    Raises:
        ValueError: it is no ONNX file.
    """
    try:
        return _walk(memoryview(data), "model")
    except (IndexError, KeyError, RecursionError) as exc:
        raise ValueError("it is no ONNX file") from exc


def _walk(data: memoryview, message: str) -> bool:
    within, at = _WITHIN[message], 0
    while at < len(data):
        key, at = _number(data, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            _, at = _number(data, at)
        elif wire == 2:
            size, at = _number(data, at)
            end = at + size
            if end > len(data):
                raise IndexError(end)
            if message == "tensor" and field == _EXTERNAL:
                return True
            if field in within and _walk(data[at:end], within[field]):
                return True
            at = end
        else:
            at += _SKIP[wire]
    return False


def _number(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, at, shift = value | (byte & 0x7F) << shift, at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise IndexError(at)
