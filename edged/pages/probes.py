"""The pages for scrapers and probes: ``/metrics``, ``/health/live``, ``/health/ready``.

Decides what a page says, from the parts as they are; how it is sent is ``transports/scrape.py``'s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from edged.errors import EdgedError
from edged.pages.status import unready
from edged.protocol.http_get import JSON, Reply, Request
from edged.serving.dataplane import Dataplane
from edged.telemetry.exposition import Family, render
from edged.transports.scrape import Page

_FRESH_NS = 1_000_000_000
"""So long a text is given to everybody who asks for one of its form: a flood of scrapes then costs
the loop two texts a second, some milliseconds, and Prometheus asks far less often."""
_OPEN = "application/openmetrics-text"


class Probes:
    """The pages.

    Args:
        dataplane: who is ready.
        families: all figures as they are now.
        clock_ns: monotonic.
    """

    def __init__(
        self,
        dataplane: Dataplane,
        families: Callable[[], list[Family]],
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._dataplane = dataplane
        self._families = families
        self._clock_ns = clock_ns
        self._texts: dict[str, tuple[int, bytes, str]] = {}
        self._rendering = asyncio.Lock()

    def pages(self) -> dict[str, Page]:
        """By path."""
        return {
            "/metrics": self.metrics,
            "/health/live": self.live,
            "/health/ready": self.ready,
        }

    async def live(self, _request: Request) -> Reply:
        """That this answers is the answer: process and loop are up."""
        return _document(200, {"live": True})

    async def ready(self, _request: Request) -> Reply:
        """Whether each required model would be answered, and which would not."""
        reasons = unready(self._dataplane)
        body: dict[str, object] = {"ready": not reasons}
        if reasons:
            body["not_ready"] = reasons
        return _document(503 if reasons else 200, body)

    async def metrics(self, request: Request) -> Reply:
        """Every figure."""
        form = _OPEN if _OPEN in request.accept else ""
        async with self._rendering:
            known = self._texts.get(form)
            if known is None or self._clock_ns() - known[0] >= _FRESH_NS:
                try:
                    text, content_type = await render(self._families(), form)
                except EdgedError as exc:
                    return Reply(503, f"{exc.message}\n".encode())
                known = self._clock_ns(), text, content_type
                self._texts[form] = known
        return Reply(200, known[1], known[2])


def _document(status: int, document: dict[str, object]) -> Reply:
    return Reply(status, msgspec.json.encode(document) + b"\n", JSON)
