"""Triton's own HTTP clients, unchanged: the blocking one over TCP, the other over the Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edged.tensors import DTYPES
from tests.compat.echo import check, sample
from tests.compat.stand import free_port, serving

http = pytest.importorskip("tritonclient.http")
aio = pytest.importorskip("tritonclient.http.aio")
aiohttp = pytest.importorskip("aiohttp")
ml_dtypes = pytest.importorskip("ml_dtypes")

from tritonclient.utils import InferenceServerException  # noqa: E402

pytestmark = pytest.mark.slow

IN_JSON = [name for name in DTYPES if name != "float16"]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    number = free_port()
    place = f"port: {number}, insecure: true, server_name: triton"
    with serving(tmp_path_factory.mktemp("tcp"), place):
        yield number


@pytest.fixture
def client(port: int) -> Iterator[Any]:
    made = http.InferenceServerClient(f"127.0.0.1:{port}")
    yield made
    made.close()


def inputs(rows: int, *, binary: bool, names: Any = DTYPES) -> list[Any]:
    found = []
    for name in DTYPES:
        tensor = http.InferInput(name, [rows, 3], DTYPES[name].oip)
        tensor.set_data_from_numpy(sample(rows, name), binary_data=binary or name not in names)
        found.append(tensor)
    return found


class TestBlocking:
    def test_health_and_metadata(self, client: Any) -> None:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("echo")
        assert client.is_model_ready("sorter", "2")
        assert not client.is_model_ready("sorter", "1")
        assert not client.is_model_ready("nobody")
        assert client.get_server_metadata()["name"] == "triton"
        about = client.get_model_metadata("sorter")
        assert about["versions"] == ["2"]
        assert about["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 6]}]

    def test_configuration_index_and_statistics(self, client: Any) -> None:
        config = client.get_model_config("sorter")
        assert config["max_batch_size"] > 0
        assert config["input"] == [{"name": "features", "data_type": "TYPE_FP32", "dims": [6]}]
        index = client.get_model_repository_index()
        assert {(one["name"], one["state"]) for one in index} == {
            ("echo", "READY"), ("sorter", "READY"), ("memory", "READY"), ("text", "READY"),
            ("brain", "READY"),
            ("typed", "READY"),
        }  # fmt: skip
        before = self.counts(client)
        client.infer("echo", inputs(2, binary=True))
        after = self.counts(client)
        assert (after[0] - before[0], after[1] - before[1]) == (1, 2)
        assert after[2] > before[2]

    @staticmethod
    def counts(client: Any) -> tuple[int, int, int]:
        (found,) = client.get_inference_statistics("echo")["model_stats"]
        success = found["inference_stats"]["success"]["count"]
        return success, found["inference_count"], found["last_inference"]

    @pytest.mark.parametrize("rows", [1, 5])
    def test_every_type_as_bytes(self, client: Any, rows: int) -> None:
        check(client.infer("echo", inputs(rows, binary=True)), rows)

    def test_every_type_that_has_a_form_in_json(self, client: Any) -> None:
        wanted = [
            http.InferRequestedOutput(f"{name}_out", binary_data=name not in IN_JSON)
            for name in DTYPES
        ]
        check(client.infer("echo", inputs(2, binary=False, names=IN_JSON), outputs=wanted), 2)

    @pytest.mark.parametrize("binary_in", [True, False])
    @pytest.mark.parametrize("binary_out", [True, False])
    def test_strings(self, client: Any, binary_in: bool, binary_out: bool) -> None:
        words = np.array([["", "äöü", "a b"], ["n", "x" * 3000, '"\\']], object)
        for _ in range(2):  # the second one from the cache
            tensor = http.InferInput("x", [2, 3], "BYTES")
            tensor.set_data_from_numpy(words, binary_data=binary_in)
            wanted = http.InferRequestedOutput("y", binary_data=binary_out)
            found = client.infer("text", [tensor], outputs=[wanted]).as_numpy("y")
            assert [
                one if isinstance(one, str) else one.decode() for one in found.reshape(-1)
            ] == words.reshape(-1).tolist()
        assert client.get_model_metadata("text")["inputs"][0]["datatype"] == "BYTES"
        assert client.get_model_config("text")["input"][0]["data_type"] == "TYPE_STRING"

    def test_strings_that_are_no_text(self, client: Any) -> None:
        tensor = http.InferInput("x", [1, 3], "BYTES")
        tensor.set_data_from_numpy(np.array([[b"\xff", b"a", b"b"]], object))
        with pytest.raises(InferenceServerException, match="no UTF-8"):
            client.infer("text", [tensor])

    def test_bfloat16(self, client: Any) -> None:
        numbers = np.float32([[1.5, -2.25, 0], [3, 128, 2**-20]])
        tensor = http.InferInput("x", [2, 3], "BF16")
        tensor.set_data_from_numpy(numbers.astype(ml_dtypes.bfloat16))
        found = client.infer("brain", [tensor]).as_numpy("y")
        np.testing.assert_array_equal(found.astype(np.float32), numbers)
        with pytest.raises(InferenceServerException, match="BF16 has no form in JSON"):
            client.infer(
                "brain", [tensor], outputs=[http.InferRequestedOutput("y", binary_data=False)]
            )

    @pytest.mark.parametrize("coding", ["gzip", "deflate"])
    def test_compressed(self, client: Any, coding: str) -> None:
        result = client.infer(
            "echo", inputs(3, binary=True), request_compression_algorithm=coding,
            response_compression_algorithm=coding,
        )  # fmt: skip
        check(result, 3)

    def test_requested_outputs_id_and_parameters(self, client: Any) -> None:
        result = client.infer(
            "echo", inputs(1, binary=True), outputs=[http.InferRequestedOutput("int8_out")],
            request_id="mine", priority=1, timeout=10_000_000,
        )  # fmt: skip
        response = result.get_response()
        assert response["id"] == "mine"
        assert [one["name"] for one in response["outputs"]] == ["int8_out"]

    def test_classification(self, client: Any) -> None:
        features = np.arange(6, dtype=np.float32).reshape(1, 6)
        tensor = http.InferInput("features", [1, 6], "FP32")
        tensor.set_data_from_numpy(features)
        plain = client.infer("sorter", [tensor]).as_numpy("probabilities")[0]
        wanted = http.InferRequestedOutput("probabilities", class_count=2)
        (row,) = client.infer("sorter", [tensor], outputs=[wanted]).as_numpy("probabilities")
        best = np.argsort(-plain)[:2]
        assert [int(text.decode().split(":")[1]) for text in row] == best.tolist()

    def test_sequences(self, client: Any) -> None:
        def step(number: int, **more: Any) -> list[float]:
            tensor = http.InferInput("x", [1, 3], "FP32")
            tensor.set_data_from_numpy(np.full((1, 3), number, np.float32))
            return list(client.infer("memory", [tensor], **more).as_numpy("y")[0])

        assert step(5, sequence_id=9, sequence_start=True) == [0, 0, 0, 0, 0, 0]
        assert step(7, sequence_id=9) == [5, 5, 5, 1, 1, 1]
        assert step(1, sequence_id=9, sequence_end=True) == [12, 12, 12, 2, 2, 2]
        with pytest.raises(InferenceServerException):
            step(1, sequence_id=9)

    def test_one_connection_is_used_again(self, client: Any) -> None:
        # Nothing of an answer's body is read here: it has to arrive with its head.
        for _ in range(200):
            assert client.is_server_live()

    def test_many_at_once(self, port: int) -> None:
        made = http.InferenceServerClient(f"127.0.0.1:{port}", concurrency=8)
        waiting = [made.async_infer("echo", inputs(2, binary=True)) for _ in range(64)]
        for one in waiting:
            check(one.get_result(), 2)
        made.close()

    @pytest.mark.parametrize(
        ("model", "version", "words"),
        [("nobody", "", "Request for unknown model"), ("echo", "9", "unknown model")],
    )
    def test_who_is_not_there(self, client: Any, model: str, version: str, words: str) -> None:
        with pytest.raises(InferenceServerException, match=words):
            client.infer(model, inputs(1, binary=True), model_version=version)

    def test_wrong_tensors(self, client: Any) -> None:
        with pytest.raises(InferenceServerException, match=r'missing input .*"float64"'):
            client.infer("echo", inputs(1, binary=True)[:1])

    @pytest.mark.hostile("B12 load and unload through the inference socket")
    def test_what_only_administrators_may(self, client: Any) -> None:
        for call in (client.load_model, client.unload_model):
            with pytest.raises(InferenceServerException, match="not allowed"):
                call("echo")
        for call in (client.get_log_settings, client.get_trace_settings):
            with pytest.raises(InferenceServerException, match="not allowed"):
                call()
        for call in (client.update_log_settings, client.update_trace_settings):
            with pytest.raises(InferenceServerException, match="not allowed"):
                call(settings={"trace_level": ["OFF"], "log_verbose_level": 1})
        with pytest.raises(InferenceServerException, match="not served"):
            client.get_cuda_shared_memory_status()
        assert client.is_model_ready("echo")


def test_the_asynchronous_one_over_the_unix_socket(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("unix")

    async def work() -> None:
        client = aio.InferenceServerClient("localhost")
        await client._stub.close()
        client._stub = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(folder / "h")))
        assert await client.is_server_ready()
        answers = [client.infer("echo", inputs(2, binary=True)) for _ in range(16)]
        for result in await asyncio.gather(*answers):
            check(result, 2)
        with pytest.raises(InferenceServerException, match="unknown model"):
            await client.get_model_metadata("nobody")
        await client.close()

    with serving(folder, f"path: {folder}/h"):
        asyncio.run(work())
