"""Ways to ask a daemon what a case asks, each giving the answers as the session alone gives them."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from edged.client import Client
from edged.strings import STRINGS_CAP, decode_strings
from edged.tensors import ALL_DTYPES
from tests.onnx_suite.cases import Array
from tests.onnx_suite.packing import Packed

Ask = Callable[[Packed, list[Array]], list[Array]]
"""Raises when the daemon answers with an error."""

TIMEOUT_S = 120.0
"""Of one answer, with the load of its model before it."""
_NUMPY = {entry.oip: entry.numpy for entry in ALL_DTYPES.values()}


@contextlib.contextmanager
def native(socket_path: Path) -> Iterator[Ask]:
    """By our own protocol."""
    with Client(socket_path, timeout=TIMEOUT_S) as client:

        def ask(packed: Packed, inputs: list[Array]) -> list[Array]:
            answer = client.infer(packed.model, named(packed, inputs), timeout=TIMEOUT_S)
            return [answer[entry.name] for entry in packed.manifest.outputs]

        yield ask


@contextlib.contextmanager
def over_http(socket_path: Path) -> Iterator[Ask]:
    """By the Open Inference Protocol over HTTP, tensors as bytes both ways."""
    connection = _UnixConnection(socket_path)

    def ask(packed: Packed, inputs: list[Array]) -> list[Array]:
        head, body = encode(packed, inputs)
        headers = {"Inference-Header-Content-Length": str(len(head))}
        try:
            connection.request("POST", f"/v2/models/{packed.model}/infer", head + body, headers)
            answer = connection.getresponse()
            data = answer.read()
        except Exception:
            connection.close()  # the next request opens it anew
            raise
        if answer.status != http.client.OK:
            raise RuntimeError(f"{answer.status}: {data[:300]!r}")
        size = answer.getheader("Inference-Header-Content-Length")
        return decode(packed, data, int(size) if size else len(data))

    with contextlib.closing(connection):
        yield ask


@contextlib.contextmanager
def over_grpc(socket_path: Path) -> Iterator[Ask]:
    """By the same over gRPC, with Triton's own messages and raw contents both ways."""
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"unix:{socket_path}", unlimited) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        def ask(packed: Packed, inputs: list[Array]) -> list[Array]:
            request = service_pb2.ModelInferRequest(model_name=packed.model)
            for entry, array in zip(packed.manifest.inputs, inputs, strict=True):
                datatype = ALL_DTYPES[entry.dtype].oip
                request.inputs.add(name=entry.name, datatype=datatype, shape=array.shape)
                request.raw_input_contents.append(array.tobytes())
            answer = stub.ModelInfer(request, timeout=TIMEOUT_S)
            pairs = zip(answer.outputs, answer.raw_output_contents, strict=True)
            found = {one.name: _tensor(one.datatype, list(one.shape), raw) for one, raw in pairs}
            return [found[entry.name] for entry in packed.manifest.outputs]

        yield ask


WAYS: Mapping[str, Callable[[Path], contextlib.AbstractContextManager[Ask]]] = {
    "native": native,
    "http": over_http,
    "grpc": over_grpc,
}
"""By its name; what it is given is the path of that transport's socket."""


def named(packed: Packed, inputs: list[Array]) -> dict[str, Array]:
    """Inputs by their names."""
    return {entry.name: array for entry, array in zip(packed.manifest.inputs, inputs, strict=True)}


def encode(packed: Packed, inputs: list[Array]) -> tuple[bytes, bytes]:
    """A request: its JSON, and the tensors behind it."""
    tensors, parts = [], []
    for entry, array in zip(packed.manifest.inputs, inputs, strict=True):
        parts.append(array.tobytes())
        tensors.append(
            {
                "name": entry.name,
                "datatype": ALL_DTYPES[entry.dtype].oip,
                "shape": array.shape,
                "parameters": {"binary_data_size": len(parts[-1])},
            }
        )
    request = {"inputs": tensors, "parameters": {"binary_data_output": True}}
    return json.dumps(request).encode(), b"".join(parts)


def decode(packed: Packed, data: bytes, size: int) -> list[Array]:
    """The outputs of an answer whose JSON has so many bytes."""
    found: dict[str, Array] = {}
    at = size
    for tensor in json.loads(data[:size])["outputs"]:
        length = tensor["parameters"]["binary_data_size"]
        found[tensor["name"]] = _tensor(tensor["datatype"], tensor["shape"], data[at : at + length])
        at += length
    assert at == len(data), "bytes that belong to no output"
    return [found[entry.name] for entry in packed.manifest.outputs]


def _tensor(datatype: str, shape: Sequence[int], data: bytes) -> Array:
    if datatype == "BYTES":
        found, size = decode_strings(data, shape, "an output", STRINGS_CAP)
        assert size == len(data)
        return found
    dtype = _NUMPY[datatype]
    assert len(data) == dtype.itemsize * math.prod(shape)
    return np.frombuffer(data, dtype).reshape(shape)


class _UnixConnection(http.client.HTTPConnection):
    """To a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("edged", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))
