"""Inference requests over gRPC."""

from __future__ import annotations

import contextlib
import struct

from edged.errors import EdgedError
from edged.protocol import grpc_repeat, oip_grpc, oip_messages, protobuf


def run_grpc(data: bytes) -> None:
    """A ModelInferRequest; what is known of it reads it as it was read."""
    with contextlib.suppress(EdgedError):
        found = oip_grpc.decode_infer(data, 4096)
        # Strings take more as objects than on the wire.
        numbers = [a for a in found.asked.inputs.values() if a.dtype.kind != "O"]
        assert sum(array.nbytes for array in numbers) <= 4096
        repeat = grpc_repeat.repeat_of(data, found)
        if repeat is not None:
            assert repeat.fits(data)
            for name, array in repeat.inputs(data).items():
                assert array.tobytes() == found.asked.inputs[name].tobytes()


def seed_grpc() -> list[bytes]:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32"}
    raw = {
        "model_name": "m",
        "model_version": "3",
        "inputs": [tensor],
        "outputs": [{"name": "y", "parameters": {"classification": {"int64": 2}}}],
        "raw_input_contents": [struct.pack("<2f", 1, 2)],
    }
    typed = {
        "id": "a",
        "parameters": {"timeout": {"int64": 5}, "sequence_id": {"string": "s"}},
        "inputs": [
            {**tensor, "contents": {"fp32_contents": [1, 2]}},
            {
                "name": "n",
                "shape": [3],
                "datatype": "INT16",
                "contents": {"int_contents": [1, -1, 300]},
            },
        ],
    }
    return [protobuf.encode(oip_messages.INFER_REQUEST, one) for one in (raw, typed)]
