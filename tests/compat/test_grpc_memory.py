"""Triton's gRPC client with system shared memory by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.compat.stand import serving

rpc = pytest.importorskip("tritonclient.grpc")

import tritonclient.utils.shared_memory as shm  # noqa: E402
from tritonclient.utils import InferenceServerException, serialize_byte_tensor  # noqa: E402

pytestmark = pytest.mark.slow

X = np.arange(12, dtype=np.float32).reshape(2, 6)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("memory")
    with serving(folder, grpc=f"path: {folder}/g"):
        yield f"unix:{folder}/g"


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    with rpc.InferenceServerClient(address) as made:
        yield made


def key(name: str) -> str:
    return f"/edged_grpc_{name}_{os.getpid()}"


@pytest.fixture
def regions(client: Any) -> Iterator[list[Any]]:
    """Memory for inputs and for outputs, registered as ``in`` and ``out``."""
    names = ("in", "out")
    made = [shm.create_shared_memory_region(name, key(name), 256) for name in names]
    for name in names:
        client.register_system_shared_memory(name, key(name), 256)
    yield made
    client.unregister_system_shared_memory()
    for region in made:
        shm.destroy_shared_memory_region(region)


def features() -> Any:
    tensor = rpc.InferInput("features", [2, 6], "FP32")
    tensor.set_data_from_numpy(X)
    return tensor


def placed(name: str, shape: list[int], region: str, size: int, offset: int = 0) -> Any:
    tensor = rpc.InferInput(name, shape, "FP32")
    tensor.set_shared_memory(region, size, offset=offset)
    return tensor


@pytest.mark.parametrize("is_sent", [False, True])
def test_inputs_and_outputs(client: Any, regions: list[Any], is_sent: bool) -> None:
    """Also of an input that is sent, whose like is asked again and again."""
    wanted = client.infer("sorter", [features()]).as_numpy("probabilities")
    shm.set_shared_memory_region(regions[0], [X], offset=64)
    tensor = features() if is_sent else placed("features", [2, 6], "in", X.nbytes, 64)
    output = rpc.InferRequestedOutput("probabilities")
    output.set_shared_memory("out", 128, offset=32)
    for _ in range(20):
        result = client.infer("sorter", [tensor], outputs=[output])
        said = result.get_output("probabilities").parameters
        assert said["shared_memory_region"].string_param == "out"
        assert said["shared_memory_byte_size"].int64_param == wanted.nbytes
        assert said["shared_memory_offset"].int64_param == 32
        assert list(result.get_response().raw_output_contents) == [b""]
        found = shm.get_contents_as_numpy(regions[1], np.float32, list(wanted.shape), 32)
        np.testing.assert_array_equal(found, wanted)
        found[...] = 0
    output.unset_shared_memory()
    found = client.infer("sorter", [tensor], outputs=[output]).as_numpy("probabilities")
    np.testing.assert_array_equal(found, wanted)


def test_strings_in_a_stream(client: Any, regions: list[Any]) -> None:
    words = np.array([[b"a", "äö".encode(), b""]], object)
    shm.set_shared_memory_region(regions[0], [serialize_byte_tensor(words)])
    tensor = rpc.InferInput("x", [1, 3], "BYTES")
    tensor.set_shared_memory("in", len(serialize_byte_tensor(words).item()))
    output = rpc.InferRequestedOutput("y")
    output.set_shared_memory("out", 256)
    answers: list[Any] = []
    client.start_stream(lambda result, error: answers.append((result, error)))
    client.async_stream_infer("text", [tensor], outputs=[output])
    client.stop_stream()
    assert answers[0][1] is None
    found = shm.get_contents_as_numpy(regions[1], np.object_, [1, 3])
    assert found.tolist() == words.tolist()


def test_status(client: Any, regions: list[Any]) -> None:
    assert regions
    assert set(client.get_system_shared_memory_status().regions) == {"in", "out"}
    (one,) = client.get_system_shared_memory_status("out").regions.values()
    assert (one.name, one.key, one.offset, one.byte_size) == ("out", key("out"), 0, 256)
    client.unregister_system_shared_memory("out")
    client.unregister_system_shared_memory("out")
    with pytest.raises(InferenceServerException, match="Unable to find shared memory region") as e:
        client.get_system_shared_memory_status("out")
    assert e.value.status() == "StatusCode.NOT_FOUND"
    assert "system_shared_memory" in client.get_server_metadata().extensions


def test_mistakes(client: Any, regions: list[Any]) -> None:
    assert regions
    for name, place, size, words in (
        ("in", key("in"), 256, "in manager"),
        ("new", "/nobody-made-this", 256, "Unable to open shared memory region"),
        ("new", "/../etc/passwd", 256, "is no name of shared memory"),
        ("new", key("in"), 1 << 40, "go beyond"),
        ("new", key("in"), 0, "byte_size is 0"),
        ("", key("in"), 8, "name has 0 characters"),
    ):
        with pytest.raises(InferenceServerException, match=words) as caught:
            client.register_system_shared_memory(name, place, size)
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    for region, size, offset, words in (
        ("nobody", 48, 0, "Unable to find shared memory region"),
        ("in", 48, 250, "go beyond"),
        ("in", 40, 0, "takes 48 bytes"),
    ):
        tensor = placed("features", [2, 6], region, size, offset)
        with pytest.raises(InferenceServerException, match=words):
            client.infer("sorter", [tensor])
    output = rpc.InferRequestedOutput("probabilities")
    output.set_shared_memory("out", 4)
    with pytest.raises(InferenceServerException, match="takes 24 bytes, 4 were given"):
        client.infer("sorter", [features()], outputs=[output])
    with pytest.raises(InferenceServerException, match="GPU is not served"):
        client.get_cuda_shared_memory_status()
    assert client.is_server_live()
