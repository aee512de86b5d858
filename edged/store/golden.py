"""Golden samples on disk: the safetensors layout, read strictly and written deterministically.

Decides whether a file is exactly one header and exactly its tensors. The format has no strings:
they are kept as bytes in the form of ``strings.py``, and their shape stands in the file's metadata.
Source: the format description of safetensors (8-byte header length, JSON, dense bytes).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from edged.errors import EdgedError, ManifestError
from edged.strings import decode_strings, encode_strings
from edged.tensors import ALL_DTYPES, Array, dtype_of

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
    "bfloat16": "BF16",
}
_TEXTS = "string:"
"""In the metadata, before the name of a tensor of strings; the value is its shape, as "4,2"."""
_AXIS = re.compile(r"[0-9]{1,9}\Z")
_NAMES = {code: name for name, code in _CODES.items()}


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: Annotated[tuple[Annotated[int, Meta(ge=0, le=2**40)], ...], Meta(max_length=16)]
    data_offsets: tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]]


_HEADER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENTRY = msgspec.json.Decoder(_Entry)
_METADATA = msgspec.json.Decoder(dict[str, str])


def write_safetensors(tensors: Mapping[str, Array]) -> bytes:
    """Encode tensors; the same tensors always give the same bytes.

    Args:
        tensors: arrays of the dtypes in ALL_DTYPES, by name.

    Raises:
        ManifestError: a dtype that edged does not have.
    """
    header: dict[str, object] = {}
    texts = {}
    parts: list[bytes] = []
    offset = 0
    # Widest elements first, so that every tensor starts aligned to its own element size.
    for name, array in sorted(tensors.items(), key=lambda item: (-_alignment(item[1]), item[0])):
        dtype = dtype_of(array)
        shape = list(array.shape)
        if dtype is None:
            raise ManifestError(
                f'tensor "{name}" is {array.dtype.name}; expected one of {", ".join(ALL_DTYPES)}'
            )
        if dtype.name == "string":
            texts[_TEXTS + name] = ",".join(map(str, shape))
            data = encode_strings(array)
            shape = [len(data)]
        elif dtype.name == "bfloat16":
            data = array.tobytes()
        else:
            data = array.astype(dtype.numpy, copy=False).tobytes()
        header[name] = {
            "dtype": _CODES.get(dtype.name, "U8"),
            "shape": shape,
            "data_offsets": [offset, offset + len(data)],
        }
        parts.append(data)
        offset += len(data)
    if texts:
        header["__metadata__"] = texts
    head = msgspec.json.encode(header, order="deterministic")
    head += b" " * (-len(head) % 8)
    return b"".join([len(head).to_bytes(8, "little"), head, *parts])


def _alignment(array: Array) -> int:
    return 1 if array.dtype.kind in "OSU" else array.itemsize


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
    entries, texts = _entries(data[8 : 8 + head_bytes])
    tensors: dict[str, Array] = {}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        if entry.data_offsets[0] != end:
            raise ManifestError(f'safetensors: "{name}" does not start where the last one ended')
        end = entry.data_offsets[1]
        array = _tensor(name, entry, body)
        shape = texts.pop(name, None)
        tensors[name] = array if shape is None else _strings(name, array, shape)
    if texts:
        raise ManifestError(f"safetensors: its metadata has shapes of no tensor: {min(texts)[:64]}")
    if end != len(body):
        raise ManifestError(f"safetensors: {len(body) - end} bytes belong to no tensor")
    return tensors


def _strings(name: str, array: Array, text: str) -> Array:
    """A tensor of strings, out of the bytes that it was kept as."""
    where = f'safetensors: "{name[:64]}"'
    axes = text.split(",") if text else []
    if array.dtype != np.uint8 or array.ndim != 1 or not all(map(_AXIS.match, axes)):
        raise ManifestError(f"{where} is no list of bytes that strings of a shape can be read from")
    try:
        found, size = decode_strings(array.data, [int(axis) for axis in axes], where)
    except EdgedError as exc:
        raise ManifestError(exc.message) from exc
    if size != len(array):
        raise ManifestError(f"{where}: its strings take {size} of {len(array)} bytes")
    return found


def _entries(head: bytes) -> tuple[dict[str, _Entry], dict[str, str]]:
    """What the header says of each tensor, and the shapes of those that are strings."""
    name = "header"
    try:
        raw = _HEADER.decode(head)
        metadata = _METADATA.decode(raw.pop("__metadata__", b"{}"))
        texts = {
            key[len(_TEXTS) :]: shape for key, shape in metadata.items() if key.startswith(_TEXTS)
        }
        entries = {}
        for name, value in raw.items():
            entries[name] = _ENTRY.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ManifestError(f'safetensors: "{name[:64]}": {exc}') from exc
    return entries, texts


def _tensor(name: str, entry: _Entry, body: memoryview) -> Array:
    dtype_name = _NAMES.get(entry.dtype)
    if dtype_name is None:
        raise ManifestError(
            f'safetensors: "{name[:64]}" has dtype {entry.dtype[:16]}; '
            f"expected one of {', '.join(_NAMES)}"
        )
    dtype = ALL_DTYPES[dtype_name]
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
