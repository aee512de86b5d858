"""Inference requests in JSON, with tensors behind it."""

from __future__ import annotations

import contextlib
import json
import struct

import numpy as np

from edged.errors import EdgedError
from edged.protocol import oip_request


def run_oip(data: bytes) -> None:
    """A length of the JSON in two bytes, then the body."""
    length, body = int.from_bytes(data[:2], "little"), data[2:]
    with contextlib.suppress(EdgedError):
        asked = oip_request.decode_request(body, length or None, 4096)
        assert sum(array.nbytes for array in asked.inputs.values()) <= 4096
        for array in asked.inputs.values():
            # Behind the JSON there may be any bits.
            assert length or array.dtype.kind != "f" or np.isfinite(array).all()


def seed_oip() -> list[bytes]:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32"}
    plain = {"id": "a", "inputs": [{**tensor, "data": [[1, 2.5]]}], "parameters": {"timeout": 5}}
    blob = {
        "inputs": [{**tensor, "parameters": {"binary_data_size": 8}}],
        "outputs": [{"name": "y", "parameters": {"classification": 2, "binary_data": True}}],
        "parameters": {"sequence_id": "s", "sequence_start": True},
    }
    text = json.dumps(blob).encode()
    words = {**tensor, "datatype": "BYTES"}
    behind = json.dumps({"inputs": [{**words, "parameters": {"binary_data_size": 13}}]}).encode()
    return [
        b"\0\0" + json.dumps({"inputs": [{**words, "data": ["a", "\u00e4"]}]}).encode(),
        len(behind).to_bytes(2, "little") + behind + b"\2\0\0\0ab\3\0\0\0abc",
        b"\0\0" + json.dumps(plain).encode(),
        len(text).to_bytes(2, "little") + text + struct.pack("<2f", 1, 2),
    ]
