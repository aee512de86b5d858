"""JSON to structs, from any thread.

msgspec learns what a struct is when it first decodes one, by evaluating annotations in Python; two
threads that learn of the same struct at once have ended the process with a segmentation fault. So
that happens once for each type, one at a time.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_one_at_a_time = threading.Lock()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def decode(data: bytes | bytearray | memoryview | str | msgspec.Raw, kind: type[T]) -> T:
    """Read JSON.

    Args:
        data: a document.
        kind: of what is wanted; one of those that the program names, for each is kept.

    Raises:
        msgspec.DecodeError: it is no JSON, or something else (``ValidationError``).
    """
    found: T = _decoder_of(kind).decode(data)
    return found


def convert(value: Any, kind: type[T], *, strict: bool = True) -> T:
    """The same of what has been read already.

    Args:
        value: dicts, lists, texts and numbers.
        kind: as for ``decode``.
        strict: whether a number may not come as text.

    Raises:
        msgspec.ValidationError: it is something else.
    """
    _decoder_of(kind)  # which learns of it
    return msgspec.convert(value, kind, strict=strict)


def _decoder_of(kind: Any) -> msgspec.json.Decoder[Any]:
    found = _decoders.get(kind)
    if found is None:
        with _one_at_a_time:
            found = _decoders.get(kind)
            if found is None:
                found = _decoders[kind] = msgspec.json.Decoder(kind)
    return found
