"""Questions about the daemon over MQTT: ``<base>/req/<op>`` is answered on ``<base>/res/<op>``.

Decides what is taken for a question, where its answer may go, and how many are answered. What may
be asked is the configuration's to say, and only reads. Its session is its own: no model delays an
answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from edged.errors import (
    DeniedError,
    EdgedError,
    FieldError,
    InvalidRequestError,
    RuntimeFailureError,
    TooLargeError,
)
from edged.protocol.broker_session import (
    BrokerSession,
    Connected,
    Disconnected,
    Message,
    Publication,
    SessionEvent,
)
from edged.protocol.mqtt import JSON, BaseTopics, encode_document, error_document
from edged.topics import check_topic

log = logging.getLogger("edged.mqtt")

Call = Callable[[dict[str, Any]], Awaitable[Any]]
QUESTION_CAP_BYTES = 4096
RATE = 20
"""Answers a second; a document takes the event loop a millisecond."""
_STOP_S = 2.0
_LONGEST_TRANSACTION = 256


class Questions:
    """See above.

    Args:
        session: with a name of its own, no will and no memory.
        base: our own topics lie below it.
        calls: what may be asked, by name.
        is_input: whether a binding reads a topic; an answer there would be a request.
    """

    def __init__(
        self,
        session: BrokerSession,
        base: str,
        calls: Mapping[str, Call],
        is_input: Callable[[str], bool],
    ) -> None:
        self.answered = self.refused = self.dropped = 0
        self._session = session
        self._topics = BaseTopics(base)
        self._calls = dict(calls)
        self._is_input = is_input
        self._loop = asyncio.get_running_loop()
        self._connection = 0
        self._limit: int | None = None
        self._allowance, self._counted_s = float(RATE), self._loop.time()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Connect; a broker that is away is waited for."""
        self._session.start(self._loop, self._on_event)

    async def stop(self) -> None:
        """Answer no more."""
        self._connection = 0
        for task in self._tasks:
            task.cancel()
        await self._session.stop(_STOP_S)

    def stats(self) -> dict[str, Any]:
        """For the status page."""
        counts = {"answered": self.answered, "refused": self.refused, "dropped": self.dropped}
        return {"state": self._session.stats()["state"], **counts}

    def _on_event(self, event: SessionEvent) -> None:
        if isinstance(event, Connected):
            self._connection, self._limit = event.connection, event.maximum_packet_bytes
            self._session.subscribe([(f"{self._topics.base}/req/{op}", 1) for op in self._calls])
        elif isinstance(event, Disconnected):
            self._connection = 0
        elif isinstance(event, Message) and event.connection == self._connection:
            self._session.ack(event)
            if event.retain or not self._is_in_rate():
                self.dropped += 1
                return
            task = self._loop.create_task(self._answer(event))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _is_in_rate(self) -> bool:
        at_s = self._loop.time()
        passed_s, self._counted_s = at_s - self._counted_s, at_s
        self._allowance = min(float(RATE), self._allowance + passed_s * RATE)
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    async def _answer(self, message: Message) -> None:
        op = message.topic.removeprefix(f"{self._topics.base}/req/")
        call = self._calls.get(op)
        try:
            topic = self._answer_topic(message, op)
        except EdgedError as exc:
            log.warning("a question on %s is not answered: %s", message.topic[:128], exc.message)
            self.refused += 1
            return
        if call is None:
            self.dropped += 1  # we are subscribed to nothing else
            return
        transaction: str | int | None = None
        try:
            arguments = _arguments(message.payload)
            transaction = _transaction(arguments)
            found = {"status": "ok", "data": await call(arguments)}
            publication = self._publication(message, topic, found, transaction)
            self._check_size(publication)
            self.answered += 1
        except EdgedError as exc:
            publication = self._refusal(message, topic, exc, transaction)
        except Exception:
            log.exception("the question %s failed", op[:64])
            error = RuntimeFailureError("the question failed; see the daemon's log")
            publication = self._refusal(message, topic, error, transaction)
        if message.connection == self._connection:
            self._session.publish(publication)

    def _check_size(self, publication: Publication) -> None:
        if self._limit is not None and publication.size_bytes > self._limit:
            raise TooLargeError(f"the answer is larger than the broker takes ({self._limit} bytes)")

    def _answer_topic(self, message: Message, op: str) -> str:
        """Where the answer goes: never where it could be taken for anything else of ours."""
        topic = message.response_topic
        if topic is None:
            return f"{self._topics.base}/res/{op}"
        try:
            check_topic(topic, "response topic")
        except FieldError as exc:
            raise InvalidRequestError(exc.message) from exc
        if self._topics.holds(topic) and not topic.startswith(f"{self._topics.base}/res/"):
            raise DeniedError("the response topic is one of our own topics")
        if self._is_input(topic):
            raise InvalidRequestError("the response topic is read by a binding")
        return topic

    def _refusal(
        self, message: Message, topic: str, error: EdgedError, transaction: str | int | None
    ) -> Publication:
        self.refused += 1
        found = {"status": "error", "error": error_document(error)}
        return self._publication(message, topic, found, transaction)

    def _publication(
        self, message: Message, topic: str, found: dict[str, Any], transaction: str | int | None
    ) -> Publication:
        if transaction is not None:
            found = {**found, "transaction": transaction}
        return Publication(
            topic, encode_document(found), content_type=JSON, correlation=message.correlation
        )


def _arguments(payload: bytes) -> dict[str, Any]:
    if len(payload) > QUESTION_CAP_BYTES:
        raise TooLargeError(f"a question has at most {QUESTION_CAP_BYTES} bytes")
    if not payload.strip():
        return {}
    try:
        found = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequestError(f"is no JSON: {exc}") from None
    if not isinstance(found, dict):
        raise InvalidRequestError('expected a JSON object, e.g. {"model": "NAME"}, or nothing')
    return found


def _transaction(arguments: dict[str, Any]) -> str | int | None:
    """Its own mark of a question, which its answer bears; for who has no Correlation Data."""
    found = arguments.pop("transaction", None)
    if found is None or (isinstance(found, int) and not isinstance(found, bool)):
        return found
    if isinstance(found, str) and len(found) <= _LONGEST_TRANSACTION:
        return found
    raise InvalidRequestError(
        f"transaction: expected a number, or text of at most {_LONGEST_TRANSACTION} characters"
    )
