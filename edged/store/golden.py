"""Golden samples on disk: the safetensors layout, read strictly and written deterministically.

Decides whether a file is exactly one header and exactly its tensors. Never holds anything but
numbers. Source: the format description of safetensors (8-byte header length, JSON, dense bytes).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from edged.errors import ManifestError
from edged.tensors import DTYPES, Array

HEADER_CAP_BYTES = 1 << 20
"""Names and shapes of at most a few hundred tensors."""

_CODES = {
    "bool": "BOOL",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}
_NAMES = {code: name for name, code in _CODES.items()}


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: Annotated[tuple[Annotated[int, Meta(ge=0, le=2**40)], ...], Meta(max_length=16)]
    data_offsets: tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]]


_HEADER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENTRY = msgspec.json.Decoder(_Entry)


def write_safetensors(tensors: Mapping[str, Array]) -> bytes:
    """Encode tensors; the same tensors always give the same bytes.

    Args:
        tensors: arrays of the dtypes in DTYPES, by name.

    Raises:
        ManifestError: a dtype that the format or edged does not have.
    """
    header: dict[str, object] = {}
    parts: list[bytes] = []
    offset = 0
    # Widest elements first, so that every tensor starts aligned to its own element size.
    for name, array in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        code = _CODES.get(array.dtype.name)
        if code is None:
            raise ManifestError(
                f'tensor "{name}" is {array.dtype.name}; expected one of {", ".join(_CODES)}'
            )
        data = array.astype(DTYPES[array.dtype.name].numpy, copy=False).tobytes()
        header[name] = {
            "dtype": code,
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        parts.append(data)
        offset += len(data)
    head = msgspec.json.encode(header, order="deterministic")
    head += b" " * (-len(head) % 8)
    return b"".join([len(head).to_bytes(8, "little"), head, *parts])


def read_safetensors(data: bytes) -> dict[str, Array]:
    """Decode tensors; the arrays view ``data`` and are read-only.

    Raises:
        ManifestError: truncated, overlapping, with gaps or bytes left over, or of unknown dtype.
    """
    if len(data) < 8:
        raise ManifestError(f"a safetensors file has at least 8 bytes; this one has {len(data)}")
    head_bytes = int.from_bytes(data[:8], "little")
    if head_bytes > min(HEADER_CAP_BYTES, len(data) - 8):
        raise ManifestError(
            f"safetensors header of {head_bytes} bytes does not fit: the file has {len(data)} "
            f"bytes and the limit is {HEADER_CAP_BYTES}"
        )
    body = memoryview(data)[8 + head_bytes :]
    entries = _entries(data[8 : 8 + head_bytes])
    tensors: dict[str, Array] = {}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        if entry.data_offsets[0] != end:
            raise ManifestError(f'safetensors: "{name}" does not start where the last one ended')
        end = entry.data_offsets[1]
        tensors[name] = _tensor(name, entry, body)
    if end != len(body):
        raise ManifestError(f"safetensors: {len(body) - end} bytes belong to no tensor")
    return tensors


def _entries(head: bytes) -> dict[str, _Entry]:
    name = "header"
    try:
        raw = _HEADER.decode(head)
        raw.pop("__metadata__", None)
        entries = {}
        for name, value in raw.items():
            entries[name] = _ENTRY.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ManifestError(f'safetensors: "{name[:64]}": {exc}') from exc
    return entries


def _tensor(name: str, entry: _Entry, body: memoryview) -> Array:
    dtype_name = _NAMES.get(entry.dtype)
    if dtype_name is None:
        raise ManifestError(
            f'safetensors: "{name[:64]}" has dtype {entry.dtype[:16]}; '
            f"expected one of {', '.join(_NAMES)}"
        )
    dtype = DTYPES[dtype_name]
    begin, end = entry.data_offsets
    wanted = math.prod(entry.shape) * dtype.size_bytes
    if end > len(body) or end - begin != wanted:
        raise ManifestError(
            f'safetensors: "{name[:64]}" {dtype_name}{list(entry.shape)} needs {wanted} bytes; '
            f"its offsets [{begin}, {end}] in {len(body)} bytes do not give them"
        )
    flat = np.frombuffer(body[begin:end], dtype=dtype.numpy)
    if dtype_name == "bool" and flat.size and int(flat.view(np.uint8).max()) > 1:
        raise ManifestError(f'safetensors: "{name[:64]}" is bool but holds other bytes than 0, 1')
    return flat.reshape(entry.shape)
