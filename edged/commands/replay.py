"""A capture through bindings without a broker: what would be published? ``edged bindings test``.

The bindings are those of a file, which no daemon need have; their models are asked of a daemon that
runs. Nothing is published anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from edged.client import Client
from edged.config.binding import BindingConfig
from edged.config.identity import base_topic
from edged.config.load import Snapshot
from edged.errors import EdgedError, InvalidRequestError, NotFoundError
from edged.manifest import Manifest, parse_manifest
from edged.messages import InferRequest, InferResponse, OnResponse, SequencedRequest
from edged.protocol.broker_session import (
    Connected,
    Message,
    OnEvent,
    Publication,
    Published,
    Subscribed,
    Unsubscribed,
)
from edged.protocol.mqtt import BaseTopics
from edged.transports.bindings.binding_set import prepare_bindings
from edged.transports.bindings.bindings import Bindings

_LONGEST_S = 3700.0
"""Every message has an end by its deadline, and no binding's is later than an hour."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one message.

    Args:
        message: from the capture.
        published: what would have been published for it, in order.
        is_acknowledged: whether it came to an end.
    """

    message: Message
    published: tuple[Publication, ...]
    is_acknowledged: bool


def replay(
    snapshot: Snapshot,
    messages: Iterable[Message],
    socket: str | None,
    *,
    only: str | None,
    say: Callable[[Outcome], None],
) -> dict[str, dict[str, int]]:
    """Give each message to the bindings, and tell what came of it.

    Args:
        snapshot: the configuration with the bindings.
        messages: from a capture.
        socket: of the daemon that has the models; None for the default.
        only: the name of the one binding to try.
        say: told of each message, in order.

    Returns:
        The counts of each binding.

    Raises:
        EdgedError: a binding cannot work, or the daemon cannot be asked.
    """
    configs = [one for one in snapshot.config.bindings if only in (None, one.name)]
    if not configs:
        named = ", ".join(one.name for one in snapshot.config.bindings) or "none"
        raise InvalidRequestError(f"no such binding; those of the configuration: {named}")
    if streamed := [one.name for one in configs if one.stream]:
        raise InvalidRequestError(
            f'binding "{streamed[0]}" streams, which is not replayed; choose another by --binding'
        )
    with Client(socket) as client:
        return asyncio.run(_replay(snapshot, configs, messages, ClientDoor(client), say))


async def _replay(
    snapshot: Snapshot,
    configs: Sequence[BindingConfig],
    messages: Iterable[Message],
    door: ClientDoor,
    say: Callable[[Outcome], None],
) -> dict[str, dict[str, int]]:
    base = base_topic(snapshot.config)
    session = ReplaySession()
    with ThreadPoolExecutor(1) as executor:
        bindings = Bindings(session, door, base=base, executor=executor, max_inflight=1)
        limit = int(snapshot.config.limits.max_request)
        bindings.swap(prepare_bindings(configs, door.manifest, BaseTopics(base), limit))
        bindings.start()
        for message in messages:
            say(await session.give(message))
    found: dict[str, dict[str, int]] = bindings.stats()["bindings"]
    return found


class ClientDoor:
    """The models of a daemon that runs, as bindings ask for them; one question at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._manifests: dict[tuple[str, int | str | None], Manifest | None] = {}

    def manifest(self, model: str, release: int | str | None = None) -> Manifest | None:
        """The manifest of the release that would answer."""
        key = (model, release)
        if key not in self._manifests:
            try:
                document = self._client.call("manifest", model=model, release=release)
                self._manifests[key] = parse_manifest(document.encode())
            except NotFoundError:
                self._manifests[key] = None
        return self._manifests[key]

    def submit(self, request: InferRequest, on_response: OnResponse) -> None:
        """Ask, and wait: nothing else happens in a replay."""
        try:
            if isinstance(request, SequencedRequest):
                result = self._client.submit_step(request, None).result()
            else:
                result = self._client.infer(request.model, request.inputs, release=request.release)
        except EdgedError as exc:
            on_response(InferResponse(request.model, 0, 0, error=exc), True)
            return
        answer = InferResponse(result.model, result.release, result.generation, dict(result))
        on_response(answer, True)


class ReplaySession:
    """A broker that takes everything and keeps nothing; see BrokerSession."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_event: OnEvent = lambda _: None
        self._tokens = 0
        self._published: list[Publication] = []
        self._acknowledged = asyncio.Event()

    def start(self, loop: asyncio.AbstractEventLoop, on_event: OnEvent) -> None:
        """Connect at once."""
        self._loop, self._on_event = loop, on_event
        on_event(Connected(1, "5", session_present=False, receive_maximum=65535,
                           maximum_packet_bytes=None))  # fmt: skip

    async def give(self, message: Message) -> Outcome:
        """Deliver a message, and wait for its end: as QoS 1, whose end is the acknowledgement."""
        self._published.clear()
        self._acknowledged.clear()
        self._on_event(message._replace(qos=1))
        try:
            await asyncio.wait_for(self._acknowledged.wait(), _LONGEST_S)
        except asyncio.TimeoutError:
            return Outcome(message, tuple(self._published), is_acknowledged=False)
        return Outcome(message, tuple(self._published), is_acknowledged=True)

    def publish(self, publication: Publication) -> int:
        """Note it, and confirm it."""
        self._published.append(publication)
        token = self._token()
        self._answer(Published(1, token))
        return token

    def subscribe(self, filters: Sequence[tuple[str, int]]) -> int:
        """Everything is granted."""
        del filters
        token = self._token()
        self._answer(Subscribed(1, token))
        return token

    def unsubscribe(self, filters: Sequence[str]) -> int:
        """As asked."""
        del filters
        token = self._token()
        self._answer(Unsubscribed(1, token))
        return token

    def ack(self, message: Message) -> None:
        """The end of the message."""
        del message
        self._acknowledged.set()

    async def stop(self, timeout_s: float) -> None:
        """Nothing is open."""
        del timeout_s

    def stats(self) -> dict[str, Any]:
        """As if connected."""
        return {"state": "connected"}

    def _token(self) -> int:
        self._tokens += 1
        return self._tokens

    def _answer(self, event: Published | Subscribed | Unsubscribed) -> None:
        if self._loop is not None:
            self._loop.call_soon(self._on_event, event)
