"""What a job needs of the bindings around it, and of the dataplane. Words only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Protocol

from edged.manifest import Manifest
from edged.messages import InferRequest, OnResponse, Ticket
from edged.protocol.broker_session import Publication, Published
from edged.transports.bindings.forwarding import Forwarder
from edged.transports.bindings.keyed_states import KeyedStates
from edged.transports.bindings.lanes import Lanes
from edged.transports.bindings.made import MadeAnswers
from edged.transports.bindings.profiles import Profiles


class Door(Protocol):
    """The dataplane as bindings see it."""

    def submit(self, request: InferRequest, on_response: OnResponse) -> Ticket | None:
        """Answer a request, now or later."""
        ...

    def manifest(self, model: str, release: int | str | None = None) -> Manifest | None:
        """The manifest of the release that would answer."""
        ...


class Outlet(Protocol):
    """What a job needs of the bindings around it."""

    loop: asyncio.AbstractEventLoop
    door: Door
    executor: Executor
    max_packet_bytes: int | None
    forwarder: Forwarder | None
    lanes: Lanes
    made: MadeAnswers
    states: KeyedStates
    profiles: Profiles

    @property
    def is_crowded(self) -> bool:
        """Whether messages should not wait long, lest they stop those of other bindings."""
        ...

    def is_current(self, connection: int) -> bool:
        """Whether the connection a message arrived on is still up."""
        ...

    def publish(self, publication: Publication, on_published: Callable[[Published], None]) -> None:
        """Send, and hear when the broker has it."""
        ...
