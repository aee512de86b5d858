"""All listeners of the house as one: a change moves each of them, or none.

Decides the order only: the figures' listener is bound first, because that can be undone.
"""

from __future__ import annotations

import logging

from edged.config.schema import Config, MetricsConfig
from edged.errors import ApplyError
from edged.telemetry.exposition import MISSING, is_available
from edged.telemetry.health import Health
from edged.telemetry.lag import LoopLag
from edged.transports.scrape import ScrapeServer, Staged
from edged.transports.uds import UnixServer

log = logging.getLogger("edged.daemon")

_KEY = "metrics"


class Listeners:
    """The socket of the native protocol, and the one for scrapers and probes.

    Args:
        server: of the native protocol; the house starts it itself, once models answer.
        scrape: of figures and health.
        health: where a figures' listener that cannot be had is noted.
        lag: sampled while figures are scraped.
    """

    def __init__(
        self, server: UnixServer, scrape: ScrapeServer, health: Health, lag: LoopLag
    ) -> None:
        self._server = server
        self._scrape = scrape
        self._health = health
        self._lag = lag
        self._wanted: MetricsConfig | None = None

    async def start_scrape(self, config: Config) -> None:
        """Listen for probes; a device whose port is taken serves all the same."""
        await self._commit(self._prepare(config, is_tolerant=True), config)

    async def apply(self, config: Config) -> None:
        """Follow a changed configuration.

        Raises:
            ApplyError: one of them cannot; then all listen where they did.
        """
        # What could not be had before is no reason to refuse a change to something else.
        is_old = config.listen.metrics == self._wanted
        staged = self._prepare(config, is_tolerant=is_old)
        try:
            await self._server.apply(config)
        except BaseException:
            if staged is not None:
                self._scrape.abandon(staged)
            raise
        await self._commit(staged, config)

    def close_scrape(self) -> None:
        """The last thing that a stopping daemon stops saying is that it is alive."""
        self._lag.run(wanted=False)
        self._scrape.close()

    def _prepare(self, config: Config, *, is_tolerant: bool) -> Staged | None:
        try:
            return self._scrape.prepare(config)
        except ApplyError as exc:
            if not is_tolerant:
                raise
            self._health.degrade(_KEY, exc.message)
            return None

    async def _commit(self, staged: Staged | None, config: Config) -> None:
        self._wanted = config.listen.metrics
        if staged is None:
            return
        try:
            await self._scrape.commit(staged)
        except OSError as exc:
            # It was bound, so this is no mistake of the configuration.
            self._scrape.abandon(staged)
            self._health.degrade(_KEY, f"listen.metrics: {exc.strerror or exc}")
            return
        self._lag.run(wanted=self._wanted is not None)
        if self._wanted is not None and not is_available():
            self._health.degrade(_KEY, MISSING)
        else:
            self._health.restore(_KEY)
