"""Model files, before ONNX Runtime sees them."""

from __future__ import annotations

import onnx
from google.protobuf.message import DecodeError as ProtobufError

from edged.errors import EdgedError
from edged.store.onnx_check import check_onnx
from tests.models import all_models, with_external_data

_MEMBERS = {"weights.data": 64}


def run_onnx(data: bytes) -> None:
    """What is accepted names, as the official parser reads it, no file but the members."""
    try:
        check_onnx(data, _MEMBERS)
    except EdgedError:
        return
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except ProtobufError:
        return  # a part that we pass over is malformed: a runtime refuses it too
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            assert entry.key != "location" or entry.value in _MEMBERS, entry


def seed_onnx() -> list[bytes]:
    return [model.data for model in all_models()] + [with_external_data()[0].data]
