"""Triton's scripts that load and unload, with its own clients on the administrators' socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess
from tests.models import double

rpc = pytest.importorskip("tritonclient.grpc")
aio = pytest.importorskip("tritonclient.http.aio")

from tritonclient.utils import InferenceServerException  # noqa: E402

pytestmark = pytest.mark.slow

X = np.ones((1, 4), np.float32)
UNAVAILABLE = [{"name": "gate", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}]


class Administered(DaemonProcess):
    """With a socket for administrators."""

    def head(self) -> str:
        return super().head().replace("listen: {", f"listen: {{admin: {{path: {self.admin}}}, ")

    @property
    def admin(self) -> Path:
        return self.directory / "a"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Administered]:
    folder = tmp_path_factory.mktemp("control")
    make_bundle(folder / "gate-1.edgb", double(), name="gate")
    body = "trust: {require_signatures: false}\nmodels:\n  gate: {bundle: gate-1.edgb}\n"
    made = Administered(folder)
    made.write(body)
    try:
        yield made.start()
    finally:
        made.stop()


def asked(client: Any) -> Any:
    tensor = client.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(X)
    return tensor


def test_over_grpc(daemon: Administered) -> None:
    with contextlib.closing(rpc.InferenceServerClient(f"unix:{daemon.admin}")) as client:
        client.load_model("gate")
        assert client.is_model_ready("gate")
        answer = client.infer("gate", [asked(rpc)])
        assert answer.as_numpy("y").tolist() == [[2.0] * 4]
        client.unload_model("gate")
        assert not client.is_model_ready("gate")
        assert client.is_server_ready()
        with pytest.raises(InferenceServerException, match="is not at ready state"):
            client.infer("gate", [asked(rpc)])
        (found,) = client.get_model_repository_index(as_json=True)["models"]
        assert found == UNAVAILABLE[0]
        client.load_model("gate")
        assert client.is_model_ready("gate")
        assert client.infer("gate", [asked(rpc)]).as_numpy("y").tolist() == [[2.0] * 4]
        with pytest.raises(InferenceServerException, match="Request for unknown model"):
            client.load_model("nope")
        with pytest.raises(InferenceServerException, match="failed to load"):
            client.load_model("gate", config='{"max_batch_size":"16"}')


def test_the_log_and_traces_over_grpc(daemon: Administered) -> None:
    with contextlib.closing(rpc.InferenceServerClient(f"unix:{daemon.admin}")) as client:
        assert "logging" in client.get_server_metadata().extensions
        settings = client.get_log_settings(as_json=True)["settings"]
        assert settings["log_info"] == {"bool_param": True}
        changed = client.update_log_settings({"log_verbose_level": 1, "log_file": ""}).settings
        assert changed["log_verbose_level"].uint32_param == 1
        client.update_log_settings({"log_verbose_level": 0})
        assert client.get_log_settings().settings["log_verbose_level"].uint32_param == 0
        with pytest.raises(InferenceServerException, match="always written"):
            client.update_log_settings({"log_error": False})
        for model in ("", "gate"):
            found = client.update_trace_settings(
                model, {"trace_level": ["OFF"], "trace_rate": None}
            )
            assert list(found.settings["trace_level"].value) == ["OFF"]
            assert client.get_trace_settings(model).settings == found.settings
        with pytest.raises(InferenceServerException, match="no traces are taken"):
            client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]})


def test_over_http(daemon: Administered) -> None:
    import aiohttp
    from tritonclient.http import InferInput

    async def go() -> None:
        client = aio.InferenceServerClient("edged")
        await client._stub.close()
        client._stub = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(daemon.admin)), auto_decompress=False
        )
        try:
            await client.unload_model("gate")
            assert not await client.is_model_ready("gate")
            assert await client.is_server_ready()
            tensor = InferInput("x", [1, 4], "FP32")
            tensor.set_data_from_numpy(X)
            with pytest.raises(InferenceServerException, match="is not at ready state"):
                await client.infer("gate", [tensor])
            assert await client.get_model_repository_index() == UNAVAILABLE
            await client.load_model("gate")
            assert await client.is_model_ready("gate")
            answer = await client.infer("gate", [tensor])
            assert answer.as_numpy("y").tolist() == [[2.0] * 4]
        finally:
            await client.close()

    asyncio.run(go())
