"""What an operator says about answers that are kept. Words only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Protocol

from msgspec import Meta

from edged.config.section import Section
from edged.specs import Duration, Size


class CacheConfig(Section, frozen=True, kw_only=True):
    """Answers that are kept, and given again to who asks the same of the same release."""

    size: Annotated[Size, Meta(description="bytes of kept answers, keys and bookkeeping included")]
    ttl: Annotated[
        Duration | None, Meta(description="how long an answer is given again; default: no limit")
    ] = None
    shared: Annotated[
        bool,
        Meta(description="false: only to the same user or binding, which hides who asked what"),
    ] = True


class _Asked(Protocol):
    """What may have a cache: a model, or a pipeline."""

    @property
    def cache(self) -> CacheConfig | None:
        """Its section."""
        ...


class _Asks(Protocol):
    """A whole configuration."""

    @property
    def models(self) -> Mapping[str, _Asked]:
        """By name."""
        ...

    @property
    def pipelines(self) -> Mapping[str, _Asked]:
        """By name."""
        ...


def wanted_caches(config: _Asks) -> dict[str, CacheConfig]:
    """The sections of all that are to have one."""
    sections = {**config.models, **config.pipelines}
    return {name: one.cache for name, one in sections.items() if one.cache is not None}


def cache_bytes(config: _Asks) -> int:
    """What they may take together."""
    return sum(section.size for section in wanted_caches(config).values())
