"""One cache a model: bounded as the configuration says, whatever releases come and go."""

from __future__ import annotations

import numpy as np

from edged.config.cache import CacheConfig
from edged.config.schema import Config, ModelConfig
from edged.serving.caching.cache import freeze
from edged.serving.caching.caches import Caches
from edged.specs import Duration, Size
from tests.fakes.clock import on_loop, turns
from tests.fakes.model import FakeSession
from tests.serving.caching.test_cached import MIB, Later
from tests.serving.test_dataplane import ask, door, served

SMALL = CacheConfig(size=Size(100_000), ttl=Duration(5_000_000_000))


def config(**caches: CacheConfig | None) -> Config:
    models = {name: ModelConfig(bundle="b", cache=cache) for name, cache in caches.items()}
    return Config(models=models)


def sizes(caches: Caches) -> dict[str, tuple[int, int | None]]:
    return {name: (cache.size, cache.ttl_ns) for name, cache in caches.items()}


def test_as_the_configuration_says():
    caches = Caches(Later())
    caches.configure(config(a=MIB, b=SMALL, c=None))
    assert sizes(caches) == {"a": (1 << 20, None), "b": (100_000, 5_000_000_000)}
    (_, store), _ = caches.items()
    store.put(b"o", b"k", freeze({"y": np.zeros(9)}), 0)
    caches.configure(config(a=SMALL))
    assert sizes(caches) == {"a": (100_000, 5_000_000_000)}
    assert len(store) == 1, "a smaller bound costs what is over it only"
    caches.configure(config())
    assert not caches.items()
    assert len(store) == 0


@on_loop
async def test_two_releases_share_the_bound_and_no_answer():
    caches = Caches(Later())
    old = served(FakeSession(), 1)
    new = served(FakeSession(lambda inputs: {"y": inputs["x"] * 3}), 2)
    for release in (old, new):
        release.config = ModelConfig(bundle="b", cache=MIB)
        caches.serve(release)
    plane = door(old, new)
    for _ in range(2):
        answers = {number: ask(plane, release=number) for number in (1, 2)}
        await turns()
        assert {number: one[0].outputs["y"][0, 0] for number, one in answers.items()} == {
            1: 2,
            2: 3,
        }
    ((_, store),) = caches.items()
    assert (store.hits, store.misses, len(store)) == (2, 2, 2)
    old.pass_on(new)
    assert len(store) == 1, "who goes takes its answers along"
    assert ask(plane, release=2)[0].outputs["y"][0, 0] == 3


@on_loop
async def test_a_section_that_changes():
    caches = Caches(Later())
    release = served(FakeSession())
    release.config = ModelConfig(bundle="b", cache=MIB)
    caches.serve(release)
    before = release.cache
    release.config = ModelConfig(bundle="b", cache=SMALL)
    caches.serve(release)
    assert release.cache is before, "another size keeps what is there"
    plane = door(release)
    ask(plane)
    await turns()
    release.config = ModelConfig(bundle="b", cache=CacheConfig(size=Size(1 << 20), shared=False))
    caches.serve(release)
    ((_, store),) = caches.items()
    assert release.cache is not before
    assert len(store) == 0, "what was for all is for nobody now"
