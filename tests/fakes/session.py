"""A broker session without a broker: it notes what it is told, and says what it is told to say."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from edged.protocol.broker_session import (
    Connected,
    Disconnected,
    Message,
    OnEvent,
    Publication,
    Published,
    SessionEvent,
    Subscribed,
    Unsubscribed,
)


class FakeSession:
    """Keeps every command in ``log``; PUBACKs come at once or when asked for.

    Args:
        auto: answer publications and subscriptions at once.
    """

    def __init__(self, *, auto: bool = True) -> None:
        self.auto = auto
        self.connection = 0
        self.log: list[tuple[str, Any]] = []
        self.acked: list[int] = []
        self.published: dict[int, Publication] = {}
        self.open: list[int] = []
        self.stopped = False
        self._tokens = itertools.count(1)
        self._mids = itertools.count(1)
        self.emit: OnEvent = lambda _: None

    def start(self, loop: asyncio.AbstractEventLoop, on_event: OnEvent) -> None:
        self.emit = on_event

    def connect(self, *, session_present: bool = False, limit: int | None = None) -> None:
        self.connection += 1
        self.emit(Connected(self.connection, "5", session_present, 100, limit))

    def disconnect(self, reason: str = "gone", *, will_retry: bool = True) -> None:
        self.open.clear()
        self.emit(Disconnected(self.connection, reason, will_retry))

    def receive(self, topic: str, payload: bytes, qos: int = 1, **more: Any) -> Message:
        mid = next(self._mids) if qos else 0
        words = {"retain": False, "dup": False, "arrived_ns": time.monotonic_ns()} | more
        message = Message(self.connection, mid, topic, payload, qos, **words)
        self.emit(message)
        return message

    def puback(self, token: int | None = None, code: int = 0) -> None:
        token = self.open[0] if token is None else token
        self.open.remove(token)
        self.emit(Published(self.connection, token, code, "because" if code else ""))

    def puback_all(self) -> None:
        while self.open:
            self.puback()

    def subscribe(self, filters: Sequence[tuple[str, int]]) -> int:
        return self._note("subscribe", list(filters), Subscribed)

    def unsubscribe(self, filters: Sequence[str]) -> int:
        return self._note("unsubscribe", list(filters), Unsubscribed)

    def publish(self, publication: Publication) -> int:
        token = next(self._tokens)
        self.log.append(("publish", publication))
        self.published[token] = publication
        self.open.append(token)
        if self.auto:
            asyncio.get_running_loop().call_soon(self._auto_puback, token)
        return token

    def _auto_puback(self, token: int) -> None:
        if token in self.open:
            self.puback(token)

    def _note(self, verb: str, what: Any, event: Any) -> int:
        token = next(self._tokens)
        self.log.append((verb, what))
        if self.auto:
            number = self.connection
            asyncio.get_running_loop().call_soon(lambda: self.emit(event(number, token)))
        return token

    def ack(self, message: Message) -> None:
        self.log.append(("ack", message.mid))
        if message.connection == self.connection:
            self.acked.append(message.mid)

    async def stop(self, timeout_s: float) -> None:
        self.stopped = True

    def stats(self) -> dict[str, Any]:
        return {"state": "connected", "unsent": 0}

    def of(self, verb: str) -> list[Any]:
        return [what for done, what in self.log if done == verb]

    def to(self, topic: str) -> list[Publication]:
        return [found for found in self.of("publish") if found.topic == topic]

    def documents(self, topic: str) -> list[Any]:
        return [json.loads(found.payload) for found in self.to(topic)]


class PausingSession(FakeSession):
    """One that says at the end of a turn that it has given on all that came."""

    def __init__(self, *, auto: bool = True) -> None:
        super().__init__(auto=auto)
        self.on_pause: Callable[[], None] = lambda: None
        self._is_due = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop, on_event: OnEvent) -> None:
        def emit(event: SessionEvent) -> None:
            on_event(event)
            self._pause_soon()

        self.emit, self._loop = emit, loop

    def _pause_soon(self) -> None:
        assert self._loop is not None
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._pause)

    def _pause(self) -> None:
        self._is_due = False
        self.on_pause()


class TogetherSession(PausingSession):
    """One that also does several at once, and makes no event of what the broker took."""

    def __init__(self, *, auto: bool = True) -> None:
        super().__init__(auto=auto)
        self.on_taken: Callable[[int], bool] = lambda _: False
        self.untold: list[int] = []

    def puback(self, token: int | None = None, code: int = 0) -> None:
        token = self.open[0] if token is None else token
        if code or not self.on_taken(token):
            super().puback(token, code)
            return
        self.open.remove(token)
        self.untold.append(token)
        self._pause_soon()

    def publish_together(
        self, topics: Sequence[str], payloads: Sequence[bytes], like: Publication
    ) -> range:
        self.log.append(("together", len(topics)))
        tokens = [
            self.publish(like._replace(topic=topic, payload=payload))
            for topic, payload in zip(topics, payloads, strict=True)
        ]
        return range(tokens[0], tokens[-1] + 1)

    def ack_together(self, messages: Sequence[Message]) -> None:
        self.log.append(("ack together", len(messages)))
        for message in messages:
            self.ack(message)


async def settle(turns: int = 20) -> None:
    """Let all that is ready happen."""
    for _ in range(turns):
        await asyncio.sleep(0)
