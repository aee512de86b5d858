"""What the protocol's clients are told of models in every state."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from edged.config.listen import HttpConfig, ListenConfig
from edged.config.schema import BatchingConfig, Config, ModelConfig
from edged.errors import ModelNotFoundError, ModelNotReadyError, VersionNotFoundError
from edged.messages import InferRequest
from edged.pages.oip import EXTENSIONS, OipPages
from edged.pages.probes import Probes
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.lifecycle import Event, ReleaseKey
from edged.serving.release import ServedRelease
from edged.serving.router import Route
from edged.specs import Duration, OutputProcessing
from tests.fakes.clock import on_loop, turns
from tests.fakes.manifests import make_manifest
from tests.fakes.model import FakeSession, doubler

READY = (Event.LOAD, Event.LOADED, Event.WARMED)
X = np.ones((3, 4), np.float32)


def release(number: int = 1, events: Any = READY, manifest: Any = None, **sections: Any) -> Any:
    key = ReleaseKey("gate", f"d{number}", "")
    config = ModelConfig(bundle="b", **sections)
    made = ServedRelease(key, manifest or doubler(release=number), config, 200_000)
    for event in events:
        if event is Event.WARMED:
            made.loaded(FakeSession(), "onnxruntime", 100)
        made.move(event)
    return made


def pages(*releases: Any, http: HttpConfig | None = None, **fields: Any) -> OipPages:
    plane = Dataplane()
    route = Route("gate", {one.number: one for one in releases}, **fields)
    plane.swap(ServingTable(6, {"gate": route, "empty": Route("empty", {}, required=False)}))
    config = Config(listen=ListenConfig(http=http))
    made = OipPages(plane, Probes(plane, list), lambda: config)
    made.plane = plane  # type: ignore[attr-defined]
    return made


@on_loop
async def test_the_server():
    assert pages().server()["name"] == "edged"
    named = pages(http=HttpConfig(server_name="triton")).server()
    assert named["name"] == "triton"
    assert named["extensions"] == EXTENSIONS
    assert pages(release()).unready() == {}
    assert "gate" in pages().unready()


@on_loop
async def test_a_signature():
    shown = pages(release(1), release(2), release(3, ())).model("gate", None)
    assert shown["versions"] == ["1", "2"]
    assert shown["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert shown["platform"] == "onnxruntime_onnx"
    assert pages(release(1), release(2)).model("gate", "1")["versions"] == ["1"]
    assert pages(release(1)).inputs("gate", None)[0].name == "x"


@on_loop
async def test_who_is_not_there():
    made = pages(release(2, ()))
    for ask in (made.model, made.model_ready, made.config, made.statistics, made.inputs):
        with pytest.raises(ModelNotFoundError, match="no model"):
            ask("nobody", None)
        with pytest.raises(VersionNotFoundError):
            ask("gate", "7")
        with pytest.raises(ModelNotReadyError):
            ask("gate", "2")
    assert pages(release(1)).model_ready("gate", "1") == {"name": "gate", "ready": True}


@on_loop
async def test_a_configuration():
    batching = BatchingConfig(max_batch=16, max_queue_delay=Duration(3_000_000), instances=2)
    config = pages(release(batching=batching)).config("gate", None)
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]
    assert config["max_batch_size"] == 16
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 3000
    assert config["backend"] == "onnxruntime"


@on_loop
async def test_a_model_whose_rows_belong_together():
    manifest = make_manifest(inputs=[("x", "float32", (2, 4))], outputs=[("y", "int8", ("n",))])
    config = pages(release(manifest=manifest)).config("gate", None)
    assert config["max_batch_size"] == 0
    assert config["input"][0]["dims"] == [2, 4]
    assert config["output"] == [{"name": "y", "data_type": "TYPE_INT8", "dims": [-1]}]
    assert "dynamic_batching" not in config


@on_loop
async def test_the_index():
    made = pages(release(1), release(2, (Event.LOAD,)), release(3, ()))
    assert made.index(ready=False) == [
        {"name": "gate", "version": "1", "state": "READY"},
        {"name": "gate", "version": "2", "state": "LOADING"},
        {"name": "gate", "version": "3", "state": "UNAVAILABLE", "reason": "new"},
        {"name": "empty"},
    ]
    assert made.index(ready=True) == [{"name": "gate", "version": "1", "state": "READY"}]


@on_loop
async def test_one_that_stands_in_is_told_too():
    made = pages(release(3, ()), fallback=release(2))
    assert [one["version"] for one in made.index(ready=True)] == ["2"]
    assert made.model("gate", None)["versions"] == ["2"]


@on_loop
async def test_statistics_count_what_was_done():
    made = pages(release(1), release(2, ()))
    before_ms = time.time_ns() // 1_000_000
    assert made.statistics("gate", "1")["model_stats"][0]["last_inference"] == 0
    for inputs in ({"x": X}, {"x": X}):
        answers: list[Any] = []
        made.plane.submit(  # type: ignore[attr-defined]
            InferRequest("gate", inputs, 1), lambda answer, _, to=answers: to.append(answer)
        )
        await turns()
        assert answers[0].error is None
    (found,) = made.statistics(None, None)["model_stats"]
    assert (found["name"], found["version"]) == ("gate", "1")
    assert found["inference_count"] == 6
    assert found["execution_count"] == 2
    assert found["last_inference"] >= before_ms
    stats = found["inference_stats"]
    assert stats["success"]["count"] == stats["queue"]["count"] == 2
    assert stats["success"]["ns"] >= stats["compute_infer"]["ns"] > 0
    assert stats["compute_infer"]["count"] == 2
    assert stats["fail"]["count"] == stats["cache_miss"]["count"] == 0


@on_loop
async def test_labels():
    manifest = make_manifest(
        [("x", "float32", ("batch", 4))],
        output_processing={"y": OutputProcessing(labels=("a", "b", "c"))},
    )
    assert pages(release(manifest=manifest)).labels("gate", 1) == {"y": ("a", "b", "c")}
    assert pages(release()).labels("gate", 1) == {}
    assert pages().labels("gate", 1) == {}


def test_figures():
    status, text, content_type = asyncio.run(pages().metrics(""))
    assert status == 200
    assert content_type.startswith("text/plain")
    assert isinstance(text, bytes)
