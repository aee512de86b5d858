"""A loader that adds to an order first, and is otherwise as any."""

from __future__ import annotations

from dataclasses import replace

from edged.config.schema import ModelConfig, TrialConfig
from edged.runtimes.registry import create_runtime
from edged.serving.choosing.order import LoadOrder
from edged.serving.dressing import DressingLoader
from edged.store.trust_store import TrustStore
from tests.fakes.loader import Contests, Footprints, Memory, NoStandings
from tests.fakes.site import Site


def test_what_is_loaded_is_what_was_made_of_the_order(tmp_path):
    site = Site(tmp_path)
    bundle = site.bundle("m", 1)
    repository = site.repository()
    stored = repository.import_bundle(bundle, TrustStore.from_files([], 1, required=False))
    asked = []

    def dress(order: LoadOrder) -> LoadOrder:
        asked.append(order)
        return replace(order, config=ModelConfig(bundle="m", runtime=("onnxruntime",)))

    loader = DressingLoader(
        lambda name: create_runtime(name, threads=1),
        NoStandings(),
        TrialConfig(enabled=False),
        1,
        measured=Memory(),
        device=lambda: "a device",
        footprints=Footprints(),
        contests=Contests(),
        dress=dress,
    )
    order = LoadOrder(stored.digest, stored, ModelConfig(bundle="m", runtime=("openvino",)))
    loader.prepare(order)
    loaded = loader.load(order, lambda: None)
    assert loaded.runtime == "onnxruntime"
    assert asked == [order, order]
    loaded.session.close()
    repository.close()
