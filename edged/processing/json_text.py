"""The one entry for JSON payloads: bytes to a document, strictly.

Decides what is JSON for us: UTF-8, capped in bytes, depth and digits, no NaN or Infinity, no key
twice. What the document means is decided by its callers.
Source: RFC 8259; the refusals are those of parsers that were attacked through the gaps.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, NoReturn

import msgspec

from edged.errors import DecodeError, TooLargeError

MAX_JSON_BYTES = 4 << 20
"""A 3x224x224 tensor as text has 2.7 MiB; parsed, 4 MiB of numbers take some 64 MiB."""
MAX_DEPTH = 32
"""Python's parser recurses; a tensor has 8 axes at most and nobody nests readings deeper."""
MAX_DIGITS = 400
"""Longer than any float64 written out; reading a whole number costs the square of its digits."""

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
"""A string, closed or not: it never backtracks, so hostile quotes cost linear time only."""
_BRACKETS = re.compile(rb"[\[\]{}]")
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (MAX_DIGITS + 1))


def parse_json(payload: bytes) -> Any:
    """Read one JSON document.

    Raises:
        TooLargeError: over MAX_JSON_BYTES.
        DecodeError: not JSON as described above; says where.
    """
    if len(payload) <= MAX_DIGITS and (reading := _reading(payload)) is not None:
        return reading
    if len(payload) > MAX_JSON_BYTES:
        raise TooLargeError(
            f"a JSON payload of {len(payload)} bytes; the limit is {MAX_JSON_BYTES}"
        )
    if not payload:
        raise DecodeError("the payload is empty; expected JSON")
    _check_depth(payload)
    if len(payload) > MAX_DIGITS and _LONG_NUMBER.search(_STRING.sub(b'""', payload)):
        raise DecodeError(f"the payload holds a number of more than {MAX_DIGITS} digits")
    try:
        return _DECODER.decode(payload.decode("utf-8"))
    except json.JSONDecodeError as exc:
        raise DecodeError(
            f"the payload is not JSON: {exc.msg}: line {exc.lineno} column {exc.colno}"
        ) from exc
    except UnicodeDecodeError as exc:
        raise DecodeError(f"the payload is not UTF-8 text (byte {exc.start})") from exc
    except (ValueError, RecursionError) as exc:
        raise DecodeError(f"the payload is not JSON: {exc}") from exc


def _reading(payload: bytes) -> dict[str, Any] | None:
    """A short flat object, as devices send them, in a third of the time; None for all else.

    It has no key twice if its quotes are those of the keys and texts that were found: one that was
    overwritten had two more. No number in it can be long enough to cost anything.
    """
    if b"\\" in payload:
        return None
    try:
        document = _read(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None  # the strict parser finds the words for it
    if type(document) is not dict:
        return None
    texts = len(document)
    for value in document.values():
        kind = type(value)
        if kind is str:
            texts += 1
        elif kind is dict or kind is list:
            return None
    return document if payload.count(b'"') == 2 * texts else None


def _check_depth(payload: bytes) -> None:
    if payload.count(b"[") + payload.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _BRACKETS.finditer(_STRING.sub(b'""', payload)):
        depth += 1 if match[0] in b"[{" else -1
        if depth > MAX_DEPTH:
            raise DecodeError(f"the payload nests deeper than {MAX_DEPTH} levels")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Counted at once: an object may have a hundred thousand keys.
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise DecodeError(f"the payload has the key {twice[:64]!a} twice in one object")
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise DecodeError(f"the payload holds {text}, which is not JSON; leave the field out or null")


_read = msgspec.json.Decoder().decode
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)
