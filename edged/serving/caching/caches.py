"""The caches of a process: one for each model or pipeline that is to have one, by its name.

They outlive the releases: the bound is that of the model, however many releases it has, and none
ever gets what another one gave. Used from the event loop only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edged.config.cache import CacheConfig, wanted_caches
from edged.config.schema import Config
from edged.serving.caching.cache import ResponseCache
from edged.serving.caching.cached import Cached, Do, Front

if TYPE_CHECKING:
    from edged.serving.release import ServedRelease


class Caches:
    """See above.

    Args:
        do: does what is long on a thread.
    """

    def __init__(self, do: Do) -> None:
        self._do = do
        self._stores: dict[str, ResponseCache] = {}

    def configure(self, config: Config) -> None:
        """Have these bounds from now on, and forget what is not to be kept any more."""
        wanted = wanted_caches(config)
        for name in self._stores.keys() - wanted.keys():
            self._stores.pop(name).clear()
        for name, section in wanted.items():
            self._of(name, section).resize(section.size, section.ttl)

    def before(
        self, name: str, release: Front, section: CacheConfig | None, *, is_sole: bool = False
    ) -> Cached | None:
        """What stands before a release, where its model or pipeline is to have a cache."""
        if section is None:
            return None
        return Cached(release, self._of(name, section), section, self._do, is_sole=is_sole)

    def serve(self, release: ServedRelease) -> None:
        """Let a release of a model have what its section says now."""
        section, now = release.config.cache, release.cache
        if now is not None and section is not None and now.is_shared == section.shared:
            return
        if now is not None:
            now.leave()
        if now is not None or section is not None:
            release.stand_behind(self.before(release.key.model, release, section))

    def items(self) -> list[tuple[str, ResponseCache]]:
        """Each, by its model."""
        return list(self._stores.items())

    def _of(self, name: str, section: CacheConfig) -> ResponseCache:
        if name not in self._stores:
            self._stores[name] = ResponseCache(section.size, section.ttl)
        return self._stores[name]
