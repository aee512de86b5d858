"""Answers of the Open Inference Protocol: a JSON head, and tensors inside it or behind it.

Source: KServe ``inference_rest.md``; Triton's ``extension_binary_data.md`` and
``extension_classification.md``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from edged.errors import InvalidRequestError, RunError
from edged.messages import InferResponse
from edged.protocol.frames import Buffer
from edged.protocol.oip_request import Asked, Wanted
from edged.protocol.oip_shared import needed, parameters_at
from edged.protocol.oip_tensor import BINARY_ONLY
from edged.strings import encode_strings
from edged.tensors import ALL_DTYPES, BFLOAT16, Array, DType, dtype_of, from_bfloat16

Labels = Sequence[str]

_KNOWN: dict[Any, DType] = {entry.numpy: entry for entry in ALL_DTYPES.values()}
"""A dtype says its name in two microseconds, and who it is at once."""


class Body(NamedTuple):
    """An answer's body.

    Args:
        parts: the JSON, then the bytes of the binary outputs in their order.
        json_bytes: length of the JSON where bytes follow; 0 where none do.
    """

    parts: list[Buffer]
    json_bytes: int


def encode_response(asked: Asked, response: InferResponse, labels: dict[str, Labels]) -> Body:
    """Say what a model answered.

    Args:
        asked: the request.
        response: without an error.
        labels: of the last axis, by output; for classification.

    Raises:
        InvalidRequestError: an output that was asked for has no form in JSON.
    """
    blobs: list[Buffer] = []
    outputs = outputs_of(asked, response, labels, blobs)
    document: dict[str, Any] = {
        "model_name": response.model,
        "model_version": str(response.release),
        "outputs": outputs,
    }
    if asked.id:
        document["id"] = asked.id
    text = msgspec.json.encode(document)
    has_bytes = any(memoryview(blob).nbytes for blob in blobs)
    return Body([text, *blobs], len(text) if has_bytes else 0)


def outputs_of(
    asked: Asked, response: InferResponse, labels: dict[str, Labels], blobs: list[Buffer]
) -> list[dict[str, Any]]:
    """Name, datatype and shape of each output, with its data where it is not binary.

    Args:
        asked: the request.
        response: without an error.
        labels: of the last axis, by output; for classification.
        blobs: gets the bytes of each binary output.
    """
    outputs = []
    for wanted in asked.outputs or [Wanted(n, asked.is_binary) for n in response.outputs]:
        array = response.outputs[wanted.name]
        if wanted.classes:
            outputs.append(_classes(wanted, array, labels.get(wanted.name, ()), blobs))
        elif wanted.place is not None:
            outputs.append(_placed(asked, wanted, array, blobs))
        else:
            outputs.append(_output(wanted, array, blobs))
    return outputs


def _placed(asked: Asked, wanted: Wanted, array: Array, blobs: list[Buffer]) -> dict[str, Any]:
    """Write an output where it is wanted; the answer says only that it is there."""
    assert wanted.place is not None
    data: list[Buffer] = []
    entry = _output(wanted, array, data)
    needed(asked.memory).write(wanted.place, data[0])
    blobs.append(b"")  # where bytes are counted by outputs, this one has its own
    entry["parameters"] = parameters_at(wanted.place, memoryview(data[0]).nbytes)
    return entry


def _output(wanted: Wanted, array: Array, blobs: list[Buffer]) -> dict[str, Any]:
    dtype = _KNOWN.get(array.dtype) or _named(array)
    entry: dict[str, Any] = {
        "name": wanted.name,
        "datatype": dtype.oip,
        "shape": list(array.shape),
    }
    if dtype.name == "string":
        return _texts(wanted, entry, array, blobs)
    if wanted.is_binary:
        dense = np.ascontiguousarray(array, dtype.numpy)
        blobs.append(dense.reshape(-1).view(np.uint8).data if dense.size else b"")
        entry["parameters"] = {"binary_data_size": dense.nbytes}
    elif dtype.name in BINARY_ONLY:
        raise InvalidRequestError(
            f'output "{wanted.name}": {dtype.oip} has no form in JSON; ask for it as binary data'
        )
    else:
        entry["data"] = _numbers(array)
    return entry


def _named(array: Array) -> DType:
    found = dtype_of(array)
    if found is None:
        raise RunError(f"an output of {array.dtype} has no form in the protocol")
    return found


def _texts(
    wanted: Wanted, entry: dict[str, Any], array: Array, blobs: list[Buffer]
) -> dict[str, Any]:
    """An output of strings: behind their lengths, or as JSON where they are text."""
    if wanted.is_binary:
        blob = encode_strings(array)
        blobs.append(blob)
        entry["parameters"] = {"binary_data_size": len(blob)}
        return entry
    try:
        entry["data"] = [one.decode() for one in array.reshape(-1).tolist()]
    except UnicodeDecodeError as exc:
        raise InvalidRequestError(
            f'output "{wanted.name}" holds bytes that are no UTF-8, which have no form in JSON; '
            "ask for it as binary data"
        ) from exc
    return entry


def _numbers(array: Array) -> Any:
    """Flat and row-major. NaN and infinities are written as Python and Triton write them."""
    flat = array.reshape(-1)
    values = flat.tolist()
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        return msgspec.Raw(f"[{','.join(map(_number, values))}]".encode("ascii"))
    return values


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _classes(wanted: Wanted, array: Array, labels: Labels, blobs: list[Buffer]) -> dict[str, Any]:
    """The largest entries of each row as ``value:index:label``."""
    if array.dtype == BFLOAT16:
        array = from_bfloat16(array)
    if array.dtype.kind not in "biuf":
        raise InvalidRequestError(
            f'output "{wanted.name}" holds strings, of which none is the largest; ask for it '
            "without classification"
        )
    rows = array.reshape(array.shape[0] if array.ndim > 1 else 1, -1)
    count = min(wanted.classes, rows.shape[1])
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    texts = [
        _class(row[index], int(index), labels)
        for row, places in zip(rows, best, strict=True)
        for index in places
    ]
    entry: dict[str, Any] = {
        "name": wanted.name,
        "datatype": "BYTES",
        "shape": [rows.shape[0], count] if array.ndim > 1 else [count],
    }
    if not wanted.is_binary:
        entry["data"] = texts
        return entry
    encoded = [text.encode() for text in texts]
    blob = b"".join(len(one).to_bytes(4, "little") + one for one in encoded)
    blobs.append(blob)
    entry["parameters"] = {"binary_data_size": len(blob)}
    return entry


def _class(value: Any, index: int, labels: Labels) -> str:
    shown = f"{float(value):.6f}" if np.issubdtype(type(value), np.floating) else str(value)
    return f"{shown}:{index}" + (f":{labels[index]}" if index < len(labels) else "")
