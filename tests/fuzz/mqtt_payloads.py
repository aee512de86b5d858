"""Payloads of devices that are no JSON; what is accepted has a JSON form of the same meaning."""

from __future__ import annotations

import gzip
import json
from functools import cache

import msgspec

from edged.errors import InvalidRequestError
from edged.processing.binary_document import MAX_ITEMS
from edged.processing.cbor_data import encode_cbor, parse_cbor
from edged.processing.columns import Parse
from edged.processing.msgpack_data import encode_msgpack, parse_msgpack
from edged.processing.protobuf_data import protobuf_parser
from edged.processing.unpacking import unpack
from edged.protocol.sparkplug import parse_sparkplug
from edged.protocol.sparkplug_births import Births
from edged.transports.bindings.tensor_payload import TensorCodec

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

_CAP = 1 << 16
_ZSTD = (bytes.fromhex("28b52ffd20021100006869"),)
"""A frame of one raw block, "hi"."""


@cache
def _parser() -> Parse:
    from tests.processing.test_protobuf_data import SET

    return protobuf_parser(SET, "plant.Reading")


def _message(**values: object) -> bytes:
    from tests.processing.test_protobuf_data import Reading

    return Reading(**values).SerializeToString()


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


def run_tensor(data: bytes) -> None:
    """What is accepted has the bytes that its shapes say."""
    try:
        tensors = TensorCodec().decode(data)
    except InvalidRequestError:
        return
    assert tensors
    assert all(array.nbytes <= 64 << 20 for array in tensors.values())


def seed_tensor() -> list[bytes]:
    one = {"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    two = {"name": "n", "shape": [3], "datatype": "INT16", "data": [1, -2, 3]}
    return [
        json.dumps({"inputs": [one, two]}).encode() + b"\n" + bytes(range(16)),
        json.dumps({"inputs": [two]}).encode(),
        json.dumps({"inputs": [two | {"datatype": "BYTES", "data": ["a", "b", "c"]}]}).encode(),
    ]


def run_packed(data: bytes) -> None:
    """What is accepted is within the cap, whatever it claims."""
    try:
        found = unpack(data, "auto", _CAP)
    except InvalidRequestError:
        return
    assert len(found) <= max(_CAP, len(data))


def seed_packed() -> list[bytes]:
    text = b'{"a": 1, "b": [1, 2, 3]}' * 10
    return [gzip.compress(text, mtime=0), gzip.compress(bytes(1 << 20), mtime=0), text, *_ZSTD]


def run_protobuf(data: bytes) -> None:
    """What is accepted has a JSON form."""
    try:
        value = _parser()(data)
    except InvalidRequestError:
        return
    _judge(value)


def seed_protobuf() -> list[bytes]:
    inner = _message(temp=-1.5, xyz=[0.5], note="ü")
    return [_message(temp=20.5, kind=1, xyz=[1, 2, 3]), b"\x32" + bytes([len(inner)]) + inner]


def run_sparkplug(data: bytes) -> None:
    """What is accepted has a JSON form; a birth, and a message that it explains."""
    births = Births()
    births.hears("spBv1.0/g/NBIRTH/n", data)
    try:
        value = parse_sparkplug(births.named("spBv1.0/g/NDATA/n", data))
    except InvalidRequestError:
        return
    _judge(value)


def seed_sparkplug() -> list[bytes]:
    one = b"\x0a\x01a\x20\x03\x50\xff\xff\xff\xff\x0f"
    two = b"\x0a\x01b\x10\x02\x20\x09\x65\x00\x00\xc0\x3f"
    return [b"".join(b"\x12" + bytes([len(part)]) + part for part in (one, two)) + b"\x18\x05"]
