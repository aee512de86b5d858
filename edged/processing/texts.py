"""Strings as tensors: UTF-8 bytes along the last axis, filled up with zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edged.tensors import Array


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
