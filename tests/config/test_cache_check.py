"""What is wrong with caches; tests/config/cases/caches.yaml has the words and the places."""

from __future__ import annotations

from edged.config.cache import CacheConfig
from edged.config.cache_check import cache_problems
from edged.config.memory import MemoryConfig
from edged.config.schema import Config, ModelConfig
from edged.specs import Duration, Size


def problems(budget: int | None = None, **fields) -> list[str]:
    cache = CacheConfig(**{"size": Size(1 << 20), **fields})
    memory = MemoryConfig(budget=None if budget is None else Size(budget))
    config = Config(memory=memory, models={"m": ModelConfig(bundle="b", cache=cache)})
    return [path for path, _ in cache_problems(config)]


def test_what_can_work():
    assert not problems()
    assert not problems(ttl=Duration(10**6))
    assert not problems((1 << 20) + 1)
    assert not problems(size=Size(1 << 16))


def test_what_cannot():
    assert problems(size=Size((1 << 16) - 1)) == ["models.m.cache.size"]
    assert problems(ttl=Duration(0)) == ["models.m.cache.ttl"]
    assert problems(ttl=Duration(31 * 24 * 3600 * 10**9)) == ["models.m.cache.ttl"]
    assert problems(1 << 20) == ["memory.budget"]
