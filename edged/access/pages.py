"""Pages about models and the server, as one connection may see them.

The one place where it is said which right a page needs, for HTTP and gRPC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edged.access.visit import Visit
from edged.tensors import TensorSpec

_INFER, _METADATA = "infer", "metadata"


class VisiblePages:
    """See above.

    Args:
        pages: the real ones.
        visit: whose rights hold.
    """

    def __init__(self, pages: Any, visit: Visit) -> None:
        self._pages = pages
        self._visit = visit

    def server(self) -> dict[str, Any]:
        """As of the real ones."""
        found: dict[str, Any] = self._pages.server()
        return found

    def unready(self) -> Mapping[str, str]:
        """As of the real ones, for the models that may be seen."""
        reasons: Mapping[str, str] = self._pages.unready()
        if not reasons or self._visit.sees_all:
            return reasons
        seen = {name: why for name, why in reasons.items() if self._visit.allows(_METADATA, name)}
        return seen or {"edged": "not every model is ready"}

    def model(self, name: str, version: str | None) -> dict[str, Any]:
        """As of the real ones; raises DeniedError before anything is looked up."""
        return self._of("model", name, version)

    def model_ready(self, name: str, version: str | None) -> dict[str, Any]:
        """As ``model``."""
        return self._of("model_ready", name, version)

    def config(self, name: str, version: str | None) -> dict[str, Any]:
        """As ``model``."""
        return self._of("config", name, version)

    def statistics(self, name: str | None, version: str | None) -> dict[str, Any]:
        """As ``model``; of all models, those that may be seen."""
        if name is not None:
            return self._of("statistics", name, version)
        found: dict[str, Any] = self._pages.statistics(None, version)
        if self._visit.sees_all:
            return found
        return {**found, "model_stats": self._visible(found["model_stats"])}

    def index(self, *, ready: bool) -> list[dict[str, Any]]:
        """As of the real ones, for the models that may be seen."""
        found: list[dict[str, Any]] = self._pages.index(ready=ready)
        return found if self._visit.sees_all else self._visible(found)

    def labels(self, name: str, release: int) -> dict[str, Sequence[str]]:
        """As of the real ones: of a model that has answered."""
        found: dict[str, Sequence[str]] = self._pages.labels(name, release)
        return found

    def inputs(self, name: str, version: str | None) -> Sequence[TensorSpec]:
        """As of the real ones; raises DeniedError before anything is looked up."""
        self._visit.require(_INFER, name)
        found: Sequence[TensorSpec] = self._pages.inputs(name, version)
        return found

    def makes_text(self, name: str, version: str | None) -> bool:
        """As ``inputs``."""
        self._visit.require(_INFER, name)
        return bool(self._pages.makes_text(name, version))

    async def metrics(self, accept: str) -> tuple[int, bytes, str]:
        """As of the real ones."""
        self._visit.require("metrics")
        found: tuple[int, bytes, str] = await self._pages.metrics(accept)
        return found

    def _visible(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [one for one in entries if self._visit.allows(_METADATA, one["name"])]

    def _of(self, page: str, name: str, version: str | None) -> dict[str, Any]:
        self._visit.require(_METADATA, name)
        found: dict[str, Any] = getattr(self._pages, page)(name, version)
        return found
