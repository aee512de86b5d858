"""A loader that sees the engines which this device built, beside the files of the bundle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edged.loading import Loaded
from edged.serving.choosing.order import LoadOrder
from edged.serving.memory.footprint import Prepared
from edged.serving.trial import Loader


class DressingLoader(Loader):
    """Loads what ``dress`` makes of an order; see ``Loader``.

    Args:
        dress: gives the order with the engines that there are; called on the loader's thread.
        named: see ``Loader``.
    """

    def __init__(
        self, *arguments: Any, dress: Callable[[LoadOrder], LoadOrder], **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self._dress = dress

    def prepare(self, order: LoadOrder) -> Prepared:
        """As ``Loader.prepare``."""
        return super().prepare(self._dress(order))

    def load(self, order: LoadOrder, on_loaded: Callable[[], None]) -> Loaded:
        """As ``Loader.load``."""
        return super().load(self._dress(order), on_loaded)
