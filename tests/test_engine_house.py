"""Which releases want an engine, and what is said of one that is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edged.config.schema import Config, ModelConfig
from edged.engine_house import EngineHouse, asked_for, is_preferred
from edged.engines.cache import EngineCache
from edged.engines.sources import wishes
from edged.errors import LoadError
from edged.serving.choosing.order import LoadOrder
from tests.fakes import clock
from tests.fakes.site import Site
from tests.generation.test_exchange import booted, on_loop
from tests.generation.test_reload import Box
from tests.runtimes.test_engine import HOST


async def until(condition: Callable[[], object]) -> None:
    """Threads of the lowest priority take their time on a busy machine."""
    await clock.until(condition, 60)


def here() -> Any:
    return HOST


def nowhere() -> Any:
    raise LoadError("no GPU")


def model(**more: Any) -> ModelConfig:
    return ModelConfig(bundle="m.edgb", **more)


@pytest.mark.parametrize(
    ("runtime", "fallback", "serving", "is_wanted"),
    [
        (("tensorrt", "onnxruntime"), "allow", "onnxruntime", True),
        (("tensorrt", "onnxruntime"), "allow", "tensorrt", True),
        (("tensorrt", "onnxruntime"), "allow", "", True),
        (("onnxruntime", "tensorrt"), "allow", "onnxruntime", False),
        (("onnxruntime", "tensorrt", "openvino"), "allow", "openvino", True),
        (("tensorrt", "onnxruntime"), "deny", "", True),
        ("auto", "allow", "openvino", True),
    ],
)
def test_an_engine_is_wanted_where_it_would_serve(runtime, fallback, serving, is_wanted):
    config = model(runtime=runtime, fallback=fallback)
    assert is_preferred(config, serving) == is_wanted


def test_what_answers_by_default_comes_first_and_old_bundles_not_at_all():
    items = [
        SimpleNamespace(stored=SimpleNamespace(manifest=SimpleNamespace(release=number)))
        for number in (1, 2, 3, 4)
    ]
    route = SimpleNamespace(
        default_release=lambda: SimpleNamespace(number=4), aliases={"champion": 2, "new": 4}
    )
    found = asked_for(route, items)  # type: ignore[arg-type]
    assert [one.stored.manifest.release for one in found] == [4, 2]
    route.default_release = lambda: None
    assert [one.stored.manifest.release for one in asked_for(route, items)] == [2, 4]  # type: ignore[arg-type]


def order_of(tmp_path: Path, config: ModelConfig) -> LoadOrder:
    site = Site(tmp_path)
    bundle = site.bundle("m", 1)
    repository = site.repository()
    from edged.store.trust_store import TrustStore

    stored = repository.import_bundle(bundle, TrustStore.from_files([], 1, required=False))
    repository.close()
    return LoadOrder(stored.digest, stored, config)


@pytest.mark.parametrize(
    ("build", "runtime", "host", "is_dressed"),
    [
        ("auto", ("tensorrt", "onnxruntime"), here, True),
        ("manual", ("tensorrt", "onnxruntime"), here, True),
        ("auto", "auto", here, True),
        ("never", ("tensorrt", "onnxruntime"), here, False),
        ("auto", ("onnxruntime",), nowhere, False),
        ("auto", ("tensorrt", "onnxruntime"), nowhere, False),
    ],
)
def test_a_load_sees_the_engines_that_there_are(
    tmp_path: Path, build: Any, runtime: Any, host: Callable[[], Any], is_dressed: bool
) -> None:
    from edged.config.engines import EnginesConfig
    from edged.engines.bench import Task
    from tests.engines.test_foundry import FakeProcess

    order = order_of(tmp_path, model(runtime=runtime))
    config = Config(engines=EnginesConfig(build=build))
    house = EngineHouse(tmp_path, config, host)
    assert house.dress(order) is order, "there is none"
    manifest = order.stored.manifest
    [wish] = wishes(manifest, order.digest, "auto", order.config.batching.max_batch)
    made = FakeProcess(Task("m", order.stored, wish), HOST).built.engine
    EngineCache(tmp_path / "engines", 1 << 30).keep(wish.source, made, "m")
    dressed = house.dress(order)
    assert (dressed is not order) == is_dressed
    runtimes = {entry.runtime for entry in dressed.stored.manifest.artefacts}
    assert ("tensorrt" in runtimes) == is_dressed


@on_loop
async def test_a_device_that_names_no_tensorrt_pays_nothing(tmp_path: Path) -> None:
    async with booted(tmp_path) as box:
        house = EngineHouse(tmp_path / "state", box.reloader.config, nowhere)
        start(house, box)
        await asyncio.sleep(0)
        assert house.as_dict() is None
        assert list(house.samples()) == []
        assert not (tmp_path / "state" / "engines").exists()
        house.stop()


def start(house: EngineHouse, box: Box) -> None:
    house.start(box.reloader, box.dataplane, lambda: False, box.repository.digests)


@on_loop
async def test_where_no_engine_can_run_it_says_why(tmp_path: Path) -> None:
    body = "models:\n  m: {bundle: m-1.edgb, runtime: [tensorrt, onnxruntime]}\n"
    async with booted(tmp_path, body) as box:
        house = EngineHouse(tmp_path / "state", box.reloader.config, nowhere)
        start(house, box)
        await until(lambda: (house.as_dict() or {}).get("problem") == "no GPU")
        document = house.as_dict()
        assert document is not None
        assert document["builds"] == []
        house.stop()


@on_loop
async def test_what_is_wanted_follows_the_configuration(tmp_path: Path) -> None:
    body = "engines: {build: manual}\nmodels:\n  m: {bundle: m-1.edgb, runtime: RUNTIMES}\n"
    both = body.replace("RUNTIMES", "[tensorrt, onnxruntime]")
    async with booted(tmp_path, both) as box:
        house = EngineHouse(tmp_path / "state", box.reloader.config, here)
        start(house, box)
        await until(lambda: (house.as_dict() or {"builds": []})["builds"])
        document = house.as_dict()
        assert document is not None
        [build] = document["builds"]
        assert (build["model"], build["phase"]) == ("m", "wanted")
        assert build["waits_for"] == "edged build m"
        assert list(house.samples()) == [("edged_engine_builds", 1, ("wanted",))]
        box.site.write(body.replace("RUNTIMES", "[onnxruntime]"))
        assert await box.reloader.reload()
        house.review()
        await until(lambda: (house.as_dict() or {})["builds"] == [])
        house.stop()
