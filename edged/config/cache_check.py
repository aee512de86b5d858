"""What is wrong with the caches of a configuration."""

from __future__ import annotations

from collections.abc import Iterator

from edged.config.cache import cache_bytes, wanted_caches
from edged.config.problems import field_path
from edged.config.schema import Config

_LEAST_BYTES = 64 << 10
"""Some hundred small answers; less is a slip of the pen."""
_LONGEST_NS = 30 * 24 * 3600 * 10**9


def cache_problems(config: Config) -> Iterator[tuple[str, str]]:
    """Field paths, and what is wrong with them."""
    for name, section in wanted_caches(config).items():
        path = f"{field_path('models' if name in config.models else 'pipelines', name)}.cache"
        if section.size < _LEAST_BYTES:
            yield f"{path}.size", "would keep next to nothing; expected at least 64KiB"
        if section.ttl is not None and not 10**6 <= section.ttl <= _LONGEST_NS:
            yield f"{path}.ttl", "is outside what can work; expected 1ms to 720h, or none"
    budget, caches = config.memory.budget, cache_bytes(config)
    if budget is not None and caches and caches >= budget:
        text = f"leaves nothing for models: the caches may take {caches} bytes of its {budget}"
        yield "memory.budget", f"{text}; raise it, or make the caches smaller"
