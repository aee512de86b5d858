"""Payloads of devices that are no JSON; what is accepted has a JSON form of the same meaning."""

from __future__ import annotations

import json

import msgspec

from edged.errors import InvalidRequestError
from edged.processing.binary_document import MAX_ITEMS
from edged.processing.cbor_data import encode_cbor, parse_cbor
from edged.processing.msgpack_data import encode_msgpack, parse_msgpack

_TREES = (
    {"a": [1, -2.5e-3, "\u00fc\U0001f600", None, True, {"b": []}], "": {"c": 70000}},
    {"values": [0.1 * number for number in range(20)], "n": [2**40, -(2**40), 2**63]},
    [{str(number): number} for number in range(20)],
    7,
)
_CBOR = (
    "d9d9f7a16161d85548cdcccc3d0000803f",
    "bf61617f62616263c3bcc3bcff61629f01f93c00ffff",
    "9f5f42010243030405ffd849440001fffeff",
)


def _judge(value: object) -> None:
    """Numbers, texts and what they lie in, and no more of them than the cap says."""
    waiting, seen = [value], 0
    while waiting:
        one = waiting.pop()
        seen += 1
        assert seen <= MAX_ITEMS + 1
        if isinstance(one, dict):
            assert all(type(key) is str for key in one)
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        elif not isinstance(one, bytes):
            json.dumps(one, allow_nan=False)


def run_cbor(data: bytes) -> None:
    """What is accepted can be written again and read as the same."""
    try:
        value = parse_cbor(data)
    except InvalidRequestError:
        return
    _judge(value)
    assert parse_cbor(encode_cbor(value)) == value


def seed_cbor() -> list[bytes]:
    return [*map(encode_cbor, _TREES), *map(bytes.fromhex, _CBOR)]


def run_msgpack(data: bytes) -> None:
    """What is accepted is what another reader reads."""
    try:
        value = parse_msgpack(data)
    except InvalidRequestError:
        return
    _judge(value)
    assert msgspec.msgpack.decode(data) == value


def seed_msgpack() -> list[bytes]:
    return [encode_msgpack(tree) for tree in _TREES]
