"""Strings as tensors: UTF-8 bytes along the last axis, filled up with zeros.

Decides what JSON strings become texts, and how much memory short texts beside a long one may take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edged.errors import DecodeError, FieldError, TooLargeError
from edged.processing.columns import Column, Parse
from edged.processing.json_text import MAX_JSON_BYTES, parse_json
from edged.processing.values import check_rows
from edged.processing.words import ABSENT
from edged.specs import FieldSpec
from edged.tensors import Array, TensorSpec

_MOST_PACKED = 4 * MAX_JSON_BYTES
"""Rows are as wide as the longest: one long text among 4096 short ones would fill gigabytes."""


def pack_texts(texts: Sequence[bytes]) -> Array:
    """Strings as rows of bytes; at least one byte wide, because no axis may be empty."""
    width = max([1, *map(len, texts)])
    return np.frombuffer(b"".join(text.ljust(width, b"\0") for text in texts), np.uint8).reshape(
        len(texts), width
    )


def unpack_texts(rows: Array) -> Any:
    """The strings in a tensor: nested lists as its axes are, without the last one."""
    if rows.ndim == 1:
        return bytes(rows).rstrip(b"\0").decode("utf-8", "replace")
    return [unpack_texts(row) for row in rows]


def pack_json(spec: TensorSpec, value: Any) -> Array:
    """JSON strings, nested as the axes are without the last one; one row may stand by itself.

    Raises:
        DecodeError: anything but strings, ragged lists, or not of the input's shape.
        TooLargeError: more rows than one message may hold, or rows too uneven.
    """
    name, shape = f'input "{spec.name}"', list[int]()
    flat = [value]
    while isinstance(flat[0], list):
        length = len(flat[0])
        if not length:
            raise DecodeError(f"{name}: an empty list holds no rows")
        if any(not isinstance(part, list) or len(part) != length for part in flat):
            raise DecodeError(f"{name}: the lists are ragged")
        shape.append(length)
        flat = [item for part in flat for item in part]
    texts = [encode_text(text, f"{name}, text {n}") for n, text in enumerate(flat)]
    if spec.is_batched and len(shape) == len(spec.shape) - 2:
        shape = [1, *shape]
    if len(shape) != len(spec.shape) - 1 or any(
        isinstance(want, int) and want != got for want, got in zip(spec.shape, shape, strict=False)
    ):
        raise DecodeError(f"{name}: expected texts for {spec}; got lists of {shape}")
    if spec.is_batched:
        check_rows(shape[0])
    return _fitted(spec, texts).reshape(*shape, -1)


def encode_text(value: Any, where: str) -> bytes:
    """The bytes of a JSON string.

    Raises:
        DecodeError: no string, or half a character (JSON can say it, UTF-8 cannot).
    """
    if not isinstance(value, str):
        raise DecodeError(f"{where}: expected text (a JSON string)")
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise DecodeError(f"{where}: half a character (a lone surrogate) at {exc.start}") from exc


def _fitted(spec: TensorSpec, texts: Sequence[bytes]) -> Array:
    longest = max(map(len, texts))
    width = spec.shape[-1]
    wide = max(longest, width if isinstance(width, int) else 1)
    if wide * len(texts) > _MOST_PACKED:
        raise TooLargeError(
            f'input "{spec.name}": {len(texts)} texts, each {wide} bytes wide, would take '
            f"{wide * len(texts)} side by side; the limit is {_MOST_PACKED}; send them apart"
        )
    if isinstance(width, int):
        if longest > width:
            raise DecodeError(f'input "{spec.name}": a text of {longest} bytes; {spec} has no room')
        texts = [texts[0].ljust(width, b"\0"), *texts[1:]]
    return pack_texts(texts)


class TextCodec:
    """Decodes ``{"note": "so"}`` to one text, or a list of such objects to as many.

    Args:
        spec: the input, uint8[batch,characters] or uint8[characters].
        fields: where the text stands in the object; one.
        parse: reads the document.

    Raises:
        FieldError: several fields, or a number for its default.
    """

    is_slow = False

    def __init__(
        self,
        spec: TensorSpec,
        fields: Sequence[str | FieldSpec],
        parse: Parse = parse_json,
    ) -> None:
        self._parse = parse
        if len(fields) != 1:
            text = f'{len(fields)} fields for input "{spec.name}", which is a text: expected 1'
            raise FieldError("fields", text)
        if isinstance(fields[0], FieldSpec) and fields[0].default is not None:
            raise FieldError("fields[0].default", "is a number, the input is text")
        self._spec = spec
        self._column = Column.from_field(fields[0])

    def decode(self, payload: bytes) -> dict[str, Array]:
        """Read a payload.

        Raises:
            DecodeError: no document, or no text where one should stand; names the row.
            TooLargeError: more rows than one message may hold, or rows too uneven.
        """
        document = self._parse(payload)
        is_list = isinstance(document, list)
        rows = document if is_list else [document]
        check_rows(len(rows))
        found = [self._text(row, number) for number, row in enumerate(rows)]
        return {self._spec.name: pack_json(self._spec, found if is_list else found[0])}

    def _text(self, row: Any, number: int) -> Any:
        value = self._column.find(row) if isinstance(row, dict) else ABSENT
        if not isinstance(value, str):
            where = f'row {number}, field "{self._column.path}"'
            raise DecodeError(f"{where}: expected text (a JSON string)")
        return value
