"""Triton's own gRPC clients, unchanged: blocking and asyncio, on a Unix socket and on TCP.

Their messages and edged's are in this one process, as in an application that uses both.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.protocol import oip_messages as messages
from edged.protocol.protobuf import Kind, Schema
from edged.tensors import DTYPES
from tests.compat.echo import check, sample
from tests.compat.stand import free_port, serving

grpc = pytest.importorskip("grpc")
client_of = pytest.importorskip("tritonclient.grpc")
aio = pytest.importorskip("tritonclient.grpc.aio")

from tritonclient.grpc import service_pb2  # noqa: E402
from tritonclient.utils import InferenceServerException  # noqa: E402

import edged.transports.grpc.endpoint  # noqa: E402, F401 - both in one process

pytestmark = pytest.mark.slow

CONTENTS = {
    "bool": "bool_contents", "int8": "int_contents", "int16": "int_contents",
    "int32": "int_contents", "int64": "int64_contents", "uint8": "uint_contents",
    "uint16": "uint_contents", "uint32": "uint_contents", "uint64": "uint64_contents",
    "float32": "fp32_contents", "float64": "fp64_contents",
}  # fmt: skip
WAIT_S = 60


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("rpc")
    with serving(folder, grpc=f"path: {folder}/g, server_name: triton"):
        yield f"unix:{folder}/g"


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    made = client_of.InferenceServerClient(address)
    yield made
    made.close()


def inputs(rows: int) -> list[Any]:
    found = []
    for name in DTYPES:
        tensor = client_of.InferInput(name, [rows, 3], DTYPES[name].oip)
        tensor.set_data_from_numpy(sample(rows, name))
        found.append(tensor)
    return found


def features() -> Any:
    tensor = client_of.InferInput("features", [1, 6], "FP32")
    tensor.set_data_from_numpy(np.arange(6, dtype=np.float32).reshape(1, 6))
    return tensor


class TestBlocking:
    def test_health_and_metadata(self, client: Any) -> None:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("echo")
        assert client.is_model_ready("sorter", "2")
        assert not client.is_model_ready("sorter", "1")
        assert not client.is_model_ready("nobody")
        server = client.get_server_metadata()
        assert server.name == "triton"
        assert "statistics" in server.extensions
        about = client.get_model_metadata("sorter")
        assert list(about.versions) == ["2"]
        assert (about.inputs[0].name, about.inputs[0].datatype) == ("features", "FP32")
        assert list(about.inputs[0].shape) == [-1, 6]

    def test_configuration_index_and_statistics(self, client: Any) -> None:
        config = client.get_model_config("sorter").config
        assert config.max_batch_size > 0
        assert config.input[0].data_type == 11  # TYPE_FP32
        assert list(config.input[0].dims) == [6]
        assert config.instance_group[0].kind == 2  # KIND_CPU
        assert config.version_policy.latest.num_versions == 1
        assert client.get_model_config("memory").config.HasField("sequence_batching")
        index = client.get_model_repository_index().models
        assert {(one.name, one.state) for one in index} >= {
            ("echo", "READY"), ("sorter", "READY"), ("memory", "READY"),
        }  # fmt: skip
        before = self.counts(client)
        client.infer("echo", inputs(2))
        after = self.counts(client)
        assert (after[0] - before[0], after[1] - before[1]) == (1, 2)
        assert after[2] > before[2]
        assert len(client.get_inference_statistics().model_stats) == len(index)

    @staticmethod
    def counts(client: Any) -> tuple[int, int, int]:
        (found,) = client.get_inference_statistics("echo").model_stats
        success = found.inference_stats.success.count
        return success, found.inference_count, found.last_inference

    @pytest.mark.parametrize("rows", [1, 5])
    def test_every_type_as_bytes(self, client: Any, rows: int) -> None:
        check(client.infer("echo", inputs(rows)), rows)

    def test_every_type_as_numbers(self, address: str) -> None:
        request = service_pb2.ModelInferRequest(model_name="echo")
        for name in DTYPES:
            entry = request.inputs.add(name=name, datatype=DTYPES[name].oip, shape=[2, 3])
            if name in CONTENTS:
                values = sample(2, name).reshape(-1).tolist()
                getattr(entry.contents, CONTENTS[name]).extend(values)
        with grpc.insecure_channel(address) as channel:
            ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            with pytest.raises(grpc.RpcError, match="FP16 has no typed contents"):
                ask(request.SerializeToString(), timeout=WAIT_S)

    @pytest.mark.parametrize("compression", ["gzip", "deflate"])
    def test_compressed(self, client: Any, compression: str) -> None:
        check(client.infer("echo", inputs(3), compression_algorithm=compression), 3)

    def test_requested_outputs_id_and_parameters(self, client: Any) -> None:
        response = client.infer(
            "echo", inputs(1), outputs=[client_of.InferRequestedOutput("int8_out")],
            request_id="mine", priority=1, timeout=10_000_000,
        ).get_response()  # fmt: skip
        assert response.id == "mine"
        assert [one.name for one in response.outputs] == ["int8_out"]

    def test_classification(self, client: Any) -> None:
        plain = client.infer("sorter", [features()]).as_numpy("probabilities")[0]
        wanted = client_of.InferRequestedOutput("probabilities", class_count=2)
        (row,) = client.infer("sorter", [features()], outputs=[wanted]).as_numpy("probabilities")
        best = np.argsort(-plain)[:2]
        assert [int(text.decode().split(":")[1]) for text in row] == best.tolist()

    def test_sequences(self, client: Any) -> None:
        def step(number: int, **more: Any) -> list[float]:
            tensor = client_of.InferInput("x", [1, 3], "FP32")
            tensor.set_data_from_numpy(np.full((1, 3), number, np.float32))
            return list(client.infer("memory", [tensor], **more).as_numpy("y")[0])

        assert step(5, sequence_id=9, sequence_start=True) == [0, 0, 0, 0, 0, 0]
        assert step(7, sequence_id=9) == [5, 5, 5, 1, 1, 1]
        assert step(1, sequence_id=9, sequence_end=True) == [12, 12, 12, 2, 2, 2]
        with pytest.raises(InferenceServerException):
            step(1, sequence_id=9)

    def test_a_large_picture(self, client: Any) -> None:
        check(client.infer("echo", inputs(200_000), client_timeout=WAIT_S), 200_000)

    def test_many_at_once(self, client: Any) -> None:
        found: queue.Queue[Any] = queue.Queue()
        for _ in range(64):
            client.async_infer("echo", inputs(2), lambda result, error: found.put((result, error)))
        for _ in range(64):
            result, error = found.get(timeout=WAIT_S)
            assert error is None
            check(result, 2)

    @pytest.mark.parametrize(
        ("model", "version", "status", "words"),
        [
            ("nobody", "", "NOT_FOUND", "Request for unknown model"),
            ("echo", "9", "NOT_FOUND", "has no available versions"),
            ("echo", "new", "INVALID_ARGUMENT", "expected a number"),
        ],
    )
    def test_who_is_not_there(
        self, client: Any, model: str, version: str, status: str, words: str
    ) -> None:
        with pytest.raises(InferenceServerException, match=words) as caught:
            client.infer(model, inputs(1), model_version=version)
        assert caught.value.status() == f"StatusCode.{status}"

    def test_wrong_tensors(self, client: Any) -> None:
        with pytest.raises(InferenceServerException, match=r'missing input .*"float64"') as caught:
            client.infer("echo", inputs(1)[:1])
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"

    @pytest.mark.hostile("B12 load and unload through the inference socket")
    def test_what_only_administrators_may(self, client: Any) -> None:
        for call in (client.load_model, client.unload_model):
            with pytest.raises(InferenceServerException, match="not allowed"):
                call("echo")
        with pytest.raises(InferenceServerException, match="Unable to open shared memory"):
            client.register_system_shared_memory("r", "/x", 64)
        assert client.is_model_ready("echo")


class TestStreams:
    @pytest.fixture
    def answers(self, client: Any) -> Iterator[queue.Queue[Any]]:
        found: queue.Queue[Any] = queue.Queue()
        client.start_stream(lambda result, error: found.put((result, error)))
        yield found
        client.stop_stream()

    def test_in_order(self, client: Any, answers: queue.Queue[Any]) -> None:
        for number in range(40):
            client.async_stream_infer("echo", inputs(1 + number % 3), request_id=str(number))
        for number in range(40):
            result, error = answers.get(timeout=WAIT_S)
            assert error is None
            assert result.get_response().id == str(number)
            check(result, 1 + number % 3)

    def test_a_failure_in_between(self, client: Any, answers: queue.Queue[Any]) -> None:
        client.async_stream_infer("sorter", [features()], request_id="a")
        client.async_stream_infer("nobody", [features()], request_id="b")
        client.async_stream_infer("sorter", [features()], request_id="c")
        assert answers.get(timeout=WAIT_S)[0].get_response().id == "a"
        assert "Request for unknown model" in str(answers.get(timeout=WAIT_S)[1])
        assert answers.get(timeout=WAIT_S)[0].get_response().id == "c"

    def test_sequences(self, client: Any, answers: queue.Queue[Any]) -> None:
        for place in range(3):
            tensor = client_of.InferInput("x", [1, 3], "FP32")
            tensor.set_data_from_numpy(np.full((1, 3), 5, np.float32))
            client.async_stream_infer(
                "memory", [tensor], sequence_id=4,
                sequence_start=place == 0, sequence_end=place == 2,
            )  # fmt: skip
        rows = [answers.get(timeout=WAIT_S)[0].as_numpy("y")[0].tolist() for _ in range(3)]
        assert [row[0] for row in rows] == [0, 5, 10]

    def test_the_end_is_told(self, client: Any, answers: queue.Queue[Any]) -> None:
        client.async_stream_infer("sorter", [features()], enable_empty_final_response=True)
        response = answers.get(timeout=WAIT_S)[0].get_response()
        assert response.parameters["triton_final_response"].bool_param


def test_typed_contents(address: str) -> None:
    """KServe's clients may send numbers; the answer is raw all the same."""
    request = service_pb2.ModelInferRequest(model_name="sorter", id="n")
    entry = request.inputs.add(name="features", datatype="FP32", shape=[1, 6])
    entry.contents.fp32_contents.extend(range(6))
    with grpc.insecure_channel(address) as channel:
        stub = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            service_pb2.ModelInferRequest.SerializeToString,
            service_pb2.ModelInferResponse.FromString,
        )
        response = stub(request, timeout=WAIT_S)
        assert (response.id, response.model_version) == ("n", "2")
        found = np.frombuffer(response.raw_output_contents[1], np.float32)
    made = client_of.InferenceServerClient(address)
    wanted = made.infer("sorter", [features()]).as_numpy("probabilities")[0]
    made.close()
    np.testing.assert_array_equal(found, wanted)


def test_health_as_grpc_has_it(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=WAIT_S) == b"\x08\x01"
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=WAIT_S)
        assert next(watch) == b"\x08\x01"
        watch.cancel()


def test_asyncio(address: str) -> None:
    async def work() -> None:
        client = aio.InferenceServerClient(address)
        assert await client.is_server_ready()
        for result in await asyncio.gather(*[client.infer("echo", inputs(2)) for _ in range(16)]):
            check(result, 2)
        with pytest.raises(InferenceServerException, match="unknown model"):
            await client.get_model_metadata("nobody")

        async def requests() -> Any:
            for number in range(3):
                yield {"model_name": "echo", "inputs": inputs(1), "request_id": str(number)}

        found = [
            result.get_response().id
            async for result, error in client.stream_infer(requests())
            if error is None
        ]
        assert found == ["0", "1", "2"]
        await client.close()

    asyncio.run(work())


def test_loopback(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path, grpc=f"port: {port}, insecure: true"):
        client = client_of.InferenceServerClient(f"127.0.0.1:{port}")
        assert client.get_server_metadata().name == "edged"
        check(client.infer("echo", inputs(1)), 1)
        client.close()


PAIRS = [
    ("INFER_REQUEST", "ModelInferRequest"), ("INFER_RESPONSE", "ModelInferResponse"),
    ("STREAM_RESPONSE", "ModelStreamInferResponse"), ("CONTENTS", "InferTensorContents"),
    ("SERVER_METADATA", "ServerMetadataResponse"), ("MODEL_METADATA", "ModelMetadataResponse"),
    ("STATISTICS", "ModelStatisticsResponse"), ("INDEX", "RepositoryIndexResponse"),
    ("INDEX_REQUEST", "RepositoryIndexRequest"), ("MODEL_CONFIG", "ModelConfigResponse"),
    ("LIVE", "ServerLiveResponse"), ("READY", "ModelReadyResponse"),
    ("NAME_VERSION", "ModelReadyRequest"), ("NAME_VERSION", "ModelStatisticsRequest"),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_our_tables_are_their_messages(ours: str, theirs: str) -> None:
    same(getattr(messages, ours), getattr(service_pb2, theirs).DESCRIPTOR)


TYPES = {
    Kind.BOOL: {8}, Kind.INT: {3, 5, 14}, Kind.UINT: {4, 13}, Kind.DOUBLE: {1}, Kind.FLOAT: {2},
    Kind.STRING: {9}, Kind.BYTES: {12}, Kind.MESSAGE: {11}, Kind.MAP: {11},
}  # fmt: skip
OTHER_NAMES = {
    "bool": "bool_param", "int64": "int64_param", "string": "string_param",
    "double": "double_param", "uint64": "uint64_param",
}  # fmt: skip


def same(schema: Schema, descriptor: Any) -> None:
    for number, field in schema.fields.items():
        theirs = descriptor.fields_by_number[number]
        assert theirs.name in (field.name, OTHER_NAMES.get(field.name)), descriptor.full_name
        assert theirs.type in TYPES[field.kind]
        is_many = getattr(theirs, "is_repeated", None)
        if is_many is None:
            is_many = theirs.label == 3
        assert is_many == (field.many or field.kind is Kind.MAP)
        if field.schema is not None:
            same(field.schema, theirs.message_type)
