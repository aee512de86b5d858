"""KServe's own gRPC client, unchanged, over a Unix socket or TCP; run by a Python that has it installed.

python kserve_grpc.py ADDRESS        as gRPC writes it: unix:/run/edged/grpc.sock, 127.0.0.1:8001
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import numpy as np
from kserve import InferInput, InferRequest, InferResponse
from kserve.inference_client import InferenceGRPCClient
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from kserve.protocol.infer_type import RequestedOutput

X = np.arange(12, dtype=np.float32).reshape(2, 6)
NUMBERS = {
    "BOOL": "?", "INT8": "i1", "INT16": "i2", "INT32": "i4", "INT64": "i8", "UINT8": "u1",
    "UINT16": "u2", "UINT32": "u4", "UINT64": "u8", "FP32": "f4", "FP64": "f8",
}  # fmt: skip
"""What has typed contents; FP16 travels as bytes alone."""


def tensor(name: str, array: Any, datatype: str, *, raw: bool) -> InferInput:
    """An input as raw contents, or as typed ones."""
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=raw)
    return made


def array_of(kind: str) -> Any:
    return np.array([[0, 1, 1], [1, 0, 1]]).astype(NUMBERS[kind])


def made(kind: str, *, raw: bool) -> InferInput:
    values = array_of(kind)
    return tensor(values.dtype.name, values, kind, raw=raw)


async def refused(work: Any) -> grpc.aio.AioRpcError:
    try:
        await work
    except grpc.aio.AioRpcError as exc:
        return exc
    raise AssertionError("nothing was refused")


async def health(client: InferenceGRPCClient) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("sorter")
    assert not await client.is_model_ready("nobody")


async def metadata(address: str) -> None:
    """The client has no words for them; its stub does."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        server = await stub.ServerMetadata(messages.ServerMetadataRequest())
        assert server.name == "edged"
        model = await stub.ModelMetadata(messages.ModelMetadataRequest(name="sorter"))
        assert list(model.versions) == ["2"]
        (features,) = model.inputs
        assert (features.name, features.datatype) == ("features", "FP32")
        assert list(features.shape) == [-1, 6]


async def numbers(client: InferenceGRPCClient) -> None:
    """Every number type there and back, as raw contents and as typed ones."""
    for raw in (True, False):
        asked = InferRequest("typed", [made(kind, raw=raw) for kind in NUMBERS], request_id="mine")
        found = await client.infer(asked)
        assert isinstance(found, InferResponse)
        assert (found.id, found.model_name, found.model_version) == ("mine", "typed", "1")
        answers = {one.name: one.as_numpy() for one in found.outputs}
        assert len(answers) == len(NUMBERS)
        for kind in NUMBERS:
            values = array_of(kind)
            np.testing.assert_array_equal(answers[f"{values.dtype.name}_out"], values)
    mixed = [made(kind, raw=kind != "FP32") for kind in NUMBERS]
    error = await refused(client.infer(InferRequest("typed", mixed)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error


async def texts(client: InferenceGRPCClient) -> None:
    words = np.array([["a", "\u00e4\u00f6", ""]], object)
    for raw in (True, False):
        found = await client.infer(InferRequest("text", [tensor("x", words, "BYTES", raw=raw)]))
        got = [one.decode() for one in found.outputs[0].as_numpy().flat]
        assert got == words.reshape(-1).tolist(), got


async def wanted_outputs(client: InferenceGRPCClient) -> None:
    one = RequestedOutput("probabilities")
    features = tensor("features", X, "FP32", raw=True)
    found = await client.infer(InferRequest("sorter", [features], request_outputs=[one]))
    (output,) = found.outputs
    assert output.as_numpy().shape == (2, 3)
    np.testing.assert_allclose(output.as_numpy().sum(axis=1), 1, rtol=1e-6)


async def errors(client: InferenceGRPCClient) -> None:
    features = tensor("features", X, "FP32", raw=True)
    unknown = await refused(client.infer(InferRequest("nobody", [features])))
    assert unknown.code() is grpc.StatusCode.NOT_FOUND, unknown
    assert "Request for unknown model" in unknown.details()
    other = tensor("pixels", X, "FP32", raw=True)
    wrong = await refused(client.infer(InferRequest("sorter", [other])))
    assert wrong.code() is grpc.StatusCode.INVALID_ARGUMENT, wrong
    assert "pixels" in wrong.details()
    late = InferRequest("sorter", [features], parameters={"timeout": 1})
    passed = await refused(client.infer(late))
    assert passed.code() is grpc.StatusCode.DEADLINE_EXCEEDED, passed


async def main(address: str) -> None:
    async with InferenceGRPCClient(address) as client:
        await health(client)
        await metadata(address)
        await numbers(client)
        await texts(client)
        await wanted_outputs(client)
        await errors(client)


asyncio.run(main(sys.argv[1]))
