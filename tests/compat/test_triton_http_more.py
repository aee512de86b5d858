"""What Triton's HTTP client can do besides asking: shared memory, plugins, bodies, waiting, errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.compat.stand import free_port, serving

http = pytest.importorskip("tritonclient.http")

import tritonclient.utils.shared_memory as shm  # noqa: E402
from tritonclient.utils import InferenceServerException, serialize_byte_tensor  # noqa: E402

pytestmark = pytest.mark.slow

X = np.arange(12, dtype=np.float32).reshape(2, 6)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    number = free_port()
    with serving(tmp_path_factory.mktemp("more"), f"port: {number}, insecure: true"):
        yield number


@pytest.fixture
def client(port: int) -> Iterator[Any]:
    with http.InferenceServerClient(f"127.0.0.1:{port}") as made:
        yield made


@pytest.fixture
def regions(client: Any) -> Iterator[list[Any]]:
    """Memory for inputs and for outputs, registered as ``in`` and ``out``."""
    made = [
        shm.create_shared_memory_region(name, f"/edged_{name}_{os.getpid()}", 256)
        for name in ("in", "out")
    ]
    for region, name in zip(made, ("in", "out"), strict=True):
        client.register_system_shared_memory(name, f"/edged_{name}_{os.getpid()}", 256)
        assert region is not None
    yield made
    client.unregister_system_shared_memory()
    for region in made:
        shm.destroy_shared_memory_region(region)


def features(*, binary: bool = True) -> Any:
    tensor = http.InferInput("features", [2, 6], "FP32")
    tensor.set_data_from_numpy(X, binary_data=binary)
    return tensor


class TestSharedMemory:
    def test_inputs_and_outputs(self, client: Any, regions: list[Any]) -> None:
        wanted = client.infer("sorter", [features()]).as_numpy("probabilities")
        shm.set_shared_memory_region(regions[0], [X], offset=64)
        tensor = http.InferInput("features", [2, 6], "FP32")
        tensor.set_shared_memory("in", X.nbytes, offset=64)
        output = http.InferRequestedOutput("probabilities")
        output.set_shared_memory("out", 128, offset=32)
        for _ in range(3):
            result = client.infer("sorter", [tensor], outputs=[output])
            said = result.get_output("probabilities")
            assert said["parameters"] == {
                "shared_memory_region": "out", "shared_memory_byte_size": wanted.nbytes,
                "shared_memory_offset": 32,
                "binary_data_size": 0,
            }  # fmt: skip
            found = shm.get_contents_as_numpy(regions[1], np.float32, list(wanted.shape), 32)
            np.testing.assert_array_equal(found, wanted)
            found[...] = 0
        output.unset_shared_memory()
        np.testing.assert_array_equal(
            client.infer("sorter", [tensor], outputs=[output]).as_numpy("probabilities"), wanted
        )

    def test_strings(self, client: Any, regions: list[Any]) -> None:
        words = np.array([[b"a", "äö".encode(), b""]], object)
        data = serialize_byte_tensor(words).item()
        shm.set_shared_memory_region(regions[0], [serialize_byte_tensor(words)])
        tensor = http.InferInput("x", [1, 3], "BYTES")
        tensor.set_shared_memory("in", len(data))
        output = http.InferRequestedOutput("y")
        output.set_shared_memory("out", 256)
        client.infer("text", [tensor], outputs=[output])
        found = shm.get_contents_as_numpy(regions[1], np.object_, [1, 3])
        assert found.tolist() == words.tolist()

    def test_status(self, client: Any, regions: list[Any]) -> None:
        assert regions
        assert {one["name"] for one in client.get_system_shared_memory_status()} == {"in", "out"}
        assert client.get_system_shared_memory_status("out") == [
            {"name": "out", "key": f"/edged_out_{os.getpid()}", "offset": 0, "byte_size": 256}
        ]
        client.unregister_system_shared_memory("out")
        client.unregister_system_shared_memory("out")
        with pytest.raises(InferenceServerException, match="Unable to find shared memory region"):
            client.get_system_shared_memory_status("out")
        assert "system_shared_memory" in client.get_server_metadata()["extensions"]

    def test_mistakes(self, client: Any, regions: list[Any]) -> None:
        assert regions
        with pytest.raises(InferenceServerException, match="in manager"):
            client.register_system_shared_memory("in", f"/edged_in_{os.getpid()}", 256)
        with pytest.raises(InferenceServerException, match="Unable to open shared memory region"):
            client.register_system_shared_memory("new", "/nobody-made-this", 256)
        with pytest.raises(InferenceServerException, match="go beyond"):
            client.register_system_shared_memory("new", f"/edged_in_{os.getpid()}", 1 << 40)
        tensor = http.InferInput("features", [2, 6], "FP32")
        for region, size, offset, words in (
            ("nobody", 48, 0, "Unable to find shared memory region"),
            ("in", 48, 250, "go beyond"),
            ("in", 40, 0, "takes 48 bytes"),
        ):
            tensor.set_shared_memory(region, size, offset=offset)
            with pytest.raises(InferenceServerException, match=words):
                client.infer("sorter", [tensor])
        output = http.InferRequestedOutput("probabilities")
        output.set_shared_memory("out", 4)
        with pytest.raises(InferenceServerException, match="takes 24 bytes, 4 were given"):
            client.infer("sorter", [features()], outputs=[output])
        assert client.is_server_live()


class TestBesides:
    def test_a_plugin_and_headers(self, client: Any) -> None:
        seen = []

        class Plugin(http.InferenceServerClientPlugin):
            def __call__(self, request: Any) -> None:
                request.headers["authorization"] = "Basic none"
                seen.append(request)

        client.register_plugin(Plugin())
        assert client.plugin() is not None
        assert client.is_server_live(headers={"X-Own": "1"}, query_params={"a": "b c", "d": 1})
        client.infer("sorter", [features()], headers={"X-Own": "2"}, query_params={"a": ["b", "c"]})
        client.unregister_plugin()
        assert len(seen) == 2

    def test_query_parameters_everywhere(self, client: Any) -> None:
        more = {"query_params": {"a": "b/../c", "d": "%"}}
        assert client.is_server_ready(**more)
        assert client.is_model_ready("sorter", **more)
        assert client.get_model_repository_index(**more)
        assert client.get_model_config("sorter", "2", **more)
        assert client.get_inference_statistics(**more)["model_stats"]
        assert client.get_inference_statistics("sorter", "2", **more)["model_stats"]

    def test_bodies_made_and_read_by_hand(self, client: Any, port: int) -> None:
        body, length = http.InferenceServerClient.generate_request_body([features()])
        response = client._post(
            "v2/models/sorter/infer", body, {"Inference-Header-Content-Length": length}, None
        )
        size = int(response.get("Inference-Header-Content-Length"))
        result = http.InferenceServerClient.parse_response_body(response.read(), header_length=size)
        wanted = client.infer("sorter", [features()]).as_numpy("probabilities")
        np.testing.assert_array_equal(result.as_numpy("probabilities"), wanted)

    def test_waiting(self, client: Any) -> None:
        pending = client.async_infer("sorter", [features()], timeout=10_000_000)
        assert pending.get_result(block=True, timeout=30).as_numpy("probabilities").shape == (2, 3)
        with pytest.raises(InferenceServerException, match="Request for unknown model"):
            client.async_infer("nobody", [features()]).get_result()

    def test_a_sequence_of_a_name(self, client: Any) -> None:
        def step(number: int, **more: Any) -> list[float]:
            tensor = http.InferInput("x", [1, 3], "FP32")
            tensor.set_data_from_numpy(np.full((1, 3), number, np.float32))
            pending = client.async_infer("memory", [tensor], sequence_id="by name", **more)
            return list(pending.get_result().as_numpy("y")[0])

        assert step(5, sequence_start=True)[:3] == [0, 0, 0]
        assert step(7)[:3] == [5, 5, 5]
        assert step(1, sequence_end=True)[:3] == [12, 12, 12]

    def test_parameters_of_one_s_own(self, client: Any) -> None:
        own = {"mine": "text", "number": 3, "ratio": 0.5, "is_so": True}
        client.infer("sorter", [features()], parameters=own)
        with pytest.raises(InferenceServerException, match="reserved"):
            client.infer("sorter", [features()], parameters={"triton_mine": 1})

    @pytest.mark.parametrize("request_coding", [None, "gzip", "deflate"])
    @pytest.mark.parametrize("response_coding", [None, "gzip", "deflate"])
    @pytest.mark.parametrize("binary", [True, False])
    def test_codings(
        self, client: Any, request_coding: str | None, response_coding: str | None, binary: bool
    ) -> None:
        result = client.infer(
            "sorter", [features(binary=binary)],
            request_compression_algorithm=request_coding,
            response_compression_algorithm=response_coding,
        )  # fmt: skip
        assert result.as_numpy("probabilities").shape == (2, 3)

    @pytest.mark.parametrize(
        ("shape", "datatype", "words"),
        [
            ([2, 5], "FP32", "wants float32"),
            ([2, 6], "INT32", "wants float32"),
            ([12], "FP32", "wants"),
        ],
    )
    def test_wrong_tensors(self, client: Any, shape: list[int], datatype: str, words: str) -> None:
        tensor = http.InferInput("features", shape, datatype)
        tensor.set_data_from_numpy(np.zeros(shape, np.float32 if datatype == "FP32" else np.int32))
        with pytest.raises(InferenceServerException, match=words) as caught:
            client.infer("sorter", [tensor])
        assert caught.value.status() == "400"

    def test_words_that_clients_look_for(self, client: Any) -> None:
        with pytest.raises(InferenceServerException, match="Request for unknown model") as caught:
            client.get_model_metadata("nobody")
        assert caught.value.status() == "404"
        with pytest.raises(InferenceServerException, match="has no available versions"):
            client.get_model_metadata("sorter", "7")
        with pytest.raises(InferenceServerException, match="Request timeout expired") as caught:
            client.infer("sorter", [features()], timeout=1)
        assert caught.value.status() == "503"


def test_many_at_once(client: Any, port: int) -> None:
    """Requests that run together: to each its own numbers, and each is counted."""
    rows = [X + number for number in range(24)]

    def asked(row: np.ndarray) -> list[Any]:
        tensor = http.InferInput("features", [2, 6], "FP32")
        tensor.set_data_from_numpy(row)
        return [tensor]

    wanted = [client.infer("sorter", asked(row)).as_numpy("probabilities") for row in rows]
    before = client.get_inference_statistics("sorter")["model_stats"][0]
    with http.InferenceServerClient(f"127.0.0.1:{port}", concurrency=16) as many:
        for _ in range(4):
            waiting = [many.async_infer("sorter", asked(row)) for row in rows]
            for one, values in zip(waiting, wanted, strict=True):
                np.testing.assert_allclose(one.get_result().as_numpy("probabilities"), values)
    after = client.get_inference_statistics("sorter")["model_stats"][0]
    assert int(after["inference_count"]) == int(before["inference_count"]) + 4 * 24 * 2
    assert int(after["execution_count"]) > int(before["execution_count"])
