"""Results on their way to another broker: on disk first, then sent, in order, until it has them.

Decides what is sent when and how fast. The outbox is the only queue: a broker that is away costs
disk, up to its cap, and no memory. Which results come here, ``work.py`` decides.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from bisect import insort
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from edged.config.binding import BindingConfig
from edged.config.broker import WhenFull
from edged.outbox.age import Moment
from edged.outbox.entry import NO_ID, Entry, Policy
from edged.outbox.outbox import Outbox
from edged.protocol.broker_session import (
    FULL_QUEUE,
    REFUSED,
    Connected,
    Disconnected,
    Message,
    OnEvent,
    Publication,
    Published,
    SessionEvent,
)
from edged.protocol.mqtt import OFFLINE, ONLINE, BaseTopics

log = logging.getLogger("edged.mqtt")

OnKept = Callable[[str], None]
"""Called with an empty text when a result is safe, else with the reason why it never will be."""
_POLICIES = {
    "block": Policy.BLOCK,
    "drop_oldest": Policy.DROP_OLDEST,
    "latest_only": Policy.LATEST_ONLY,
}
DUP = ("edged-dup", "1")
"""The user property of what may be there twice."""
_UNSET = Moment(bytes(8), 0, 0)
"""The outbox sets it."""
_TRY_AGAIN = frozenset({0x80, 0x83, FULL_QUEUE})
"""Unspecified, implementation specific, quota exceeded: reasons that pass."""
_PAUSE_S = 1.0
_SECOND_S = 1.0
_GOODBYE_S = 2.0
_DECODER = msgspec.msgpack.Decoder(Publication)


class Way(Protocol):
    """What takes results to a broker: a session, or a branch of one."""

    def start(self, loop: asyncio.AbstractEventLoop, on_event: OnEvent) -> None:
        """Begin; events are delivered on the loop, in order."""
        ...

    def publish(self, publication: Publication) -> int:
        """Send; returns the token of the Published event."""
        ...

    async def stop(self, timeout_s: float) -> None:
        """End."""
        ...

    def stats(self) -> dict[str, Any]:
        """For the status page."""
        ...


class Forwarder:
    """See above.

    Args:
        session: the other broker, or a branch of the first one's.
        outbox: open; started and stopped by whoever made it.
        base: our own topics lie below it; ``status`` is told there too. None: nothing is.
        is_branch: it has an owner, who says all there is to say of the connection.
        window: results on their way at a time.
        rate: of what was kept before the connection came up, a second; 0 = no limit.
        on_change: called when ``problem`` may have changed.
    """

    def __init__(
        self,
        session: Way,
        outbox: Outbox,
        *,
        base: str | None,
        window: int,
        rate: int,
        on_change: Callable[[], None],
        is_branch: bool = False,
    ) -> None:
        self.max_packet_bytes: int | None = None
        self._session = session
        self._outbox = outbox
        self._status = BaseTopics(base).status if base is not None else None
        self._window, self._rate, self._is_branch = window, rate, is_branch
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._connection = 0
        self._up_since_s = 0.0
        self._on_way: dict[int, Entry] = {}
        self._again: list[Entry] = []
        """Taken and to be sent before what follows in the outbox, in order."""
        self._repeated: set[int] = set()
        """On their way, and to be sent again whatever the broker says."""
        self._one_by_one: set[bytes] = set()
        """Topics of which one result was refused for the time being on this connection."""
        self._keeping: dict[bytes, OnKept] = {}
        self._allowance = 0.0
        self._counted_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._lost: Disconnected | None = None
        self._goodbye: tuple[int, asyncio.Event] | None = None
        outbox.on_ready, outbox.on_change = self._pump, on_change

    def start(self) -> None:
        """Connect; a broker that is away is waited for."""
        self._session.start(self._loop, self._on_event)

    async def stop(self) -> None:
        """Say goodbye; what is not delivered stays on disk."""
        if self._connection and self._status is not None:
            publication = Publication(self._status, OFFLINE, retain=True)
            self._goodbye = (self._session.publish(publication), asyncio.Event())
            try:
                await asyncio.wait_for(self._goodbye[1].wait(), _GOODBYE_S)
            except asyncio.TimeoutError:
                log.warning("the broker of results did not take our last word")
        self._forget()
        self._outbox.on_ready = self._outbox.on_change = _nothing
        await self._session.stop(_GOODBYE_S)

    def keep(
        self,
        publication: Publication,
        config: BindingConfig,
        message: Message,
        on_kept: OnKept,
        part: str = "",
    ) -> None:
        """Keep a result until the broker has it.

        Args:
            publication: the result.
            config: its binding's, for what is kept and how.
            message: the request; one that is delivered again is known by it.
            on_kept: called when the request may be acknowledged. A request that comes again while
                its result still waits for room replaces the one before.
            part: which of several results it is; by such a one the request is not known again.
        """
        if not message.qos:
            self._put(publication, config, NO_ID, on_kept)
            return
        value = identify(message, config.name + part)
        is_waiting = value in self._keeping
        self._keeping[value] = on_kept
        if is_waiting:
            return

        def kept(reason: str) -> None:
            self._keeping.pop(value, on_kept)(reason)

        self._put(publication, config, value if message.correlation and not part else NO_ID, kept)

    def pass_on(self, publication: Publication, config: BindingConfig, on_kept: OnKept) -> None:
        """Keep one of several results of a request; the last is given to ``keep``."""
        self._put(publication, config, NO_ID, on_kept, is_durable=False)

    def _put(
        self,
        publication: Publication,
        config: BindingConfig,
        value: bytes,
        on_kept: OnKept,
        *,
        is_durable: bool = True,
    ) -> None:
        is_durable = is_durable and config.durability == "fsync" and config.qos > 0
        self.put(publication, config.when_full, on_kept, is_durable=is_durable, value=value)

    def put(
        self,
        publication: Publication,
        when_full: WhenFull,
        on_kept: OnKept,
        *,
        is_durable: bool,
        value: bytes = NO_ID,
    ) -> None:
        """Keep something until the broker has it.

        Args:
            publication: it.
            when_full: what a full outbox does.
            on_kept: called when it is kept, or never will be; see OnKept.
            is_durable: report it when the disk has it; else when it is written.
            value: what its request is known by.
        """
        entry = Entry(
            publication.topic.encode(),
            msgspec.msgpack.encode(publication),
            _UNSET,
            publication.expiry_s or 0,
            _POLICIES[when_full],
            value,
        )
        self._outbox.put(entry, on_kept, is_durable=is_durable)

    def answered(self, message: Message, binding: str) -> bool:
        """Whether this request's result was kept before; only what is marked as repeated can be.

        Without correlation data two requests may be equal to the last byte, so that it is answered
        again, and the answer marked: twice is possible, lost is not.
        """
        if not message.dup or not message.correlation:
            return False
        return self._outbox.holds(identify(message, binding))

    @property
    def problem(self) -> str | None:
        """Why results do not flow, for people, or None while they do."""
        if self._outbox.problem:
            return self._outbox.problem
        if self._connection or self._is_branch:
            return None
        return self._lost.reason if self._lost else "not connected to the broker of results yet"

    def stats(self) -> dict[str, Any]:
        """For the status page."""
        return {
            **self._session.stats(),
            "on_way": len(self._on_way),
            "problem": self.problem,
            "outbox": self._outbox.stats(),
        }

    def _on_event(self, event: SessionEvent) -> None:
        if isinstance(event, Connected):
            self._forget()
            self._connection, self._lost = event.connection, None
            self.max_packet_bytes = event.maximum_packet_bytes
            self._up_since_s = self._counted_s = self._loop.time()
            if self._status is not None:
                self._session.publish(Publication(self._status, ONLINE, retain=True))
            self._on_change()
            self._pump()
        elif isinstance(event, Disconnected):
            self._lost = event
            self._forget()
            self._on_change()
        elif isinstance(event, Published) and event.connection == self._connection:
            self._on_published(event)

    def _forget(self) -> None:
        """The connection is gone; all that it had not confirmed is sent again on the next."""
        self._connection = 0
        self._on_way.clear()
        self._again.clear()
        self._repeated.clear()
        self._one_by_one.clear()
        self._outbox.rewind()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_published(self, event: Published) -> None:
        if self._goodbye is not None and event.token == self._goodbye[0]:
            self._goodbye[1].set()
        entry = self._on_way.pop(event.token, None)
        if entry is None:
            return
        is_repeated = entry.sequence in self._repeated
        self._repeated.discard(entry.sequence)
        if event.reason_code in _TRY_AGAIN:
            self._send_again(entry)
            self._pause(_PAUSE_S)
        elif event.reason_code < REFUSED:
            if is_repeated:
                self._put_back(entry._replace(may_be_sent=True))
            else:
                self._outbox.done(entry)
        else:
            topic = entry.key.decode(errors="replace")[:128]
            log.warning('the broker refuses a result on "%s": %s', topic, event.reason)
            self._outbox.done(entry, is_refused=True)
        self._pump()

    def _send_again(self, entry: Entry) -> None:
        """Send it later, and after it again what had overtaken it on its topic.

        What was on its way behind it the broker may have taken: sent again, marked, the last that
        a reader hears is the newest. From then on this topic's results go one by one.
        """
        self._put_back(entry)
        if entry.key in self._one_by_one:
            return
        self._one_by_one.add(entry.key)
        later = (one for one in self._on_way.values() if one.sequence > entry.sequence)
        self._repeated.update(one.sequence for one in later if one.key == entry.key)

    def _put_back(self, entry: Entry) -> None:
        insort(self._again, entry, key=lambda one: one.sequence)

    def _pause(self, delay_s: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(delay_s, self._resume)

    def _resume(self) -> None:
        self._timer = None
        self._pump()

    def _pump(self) -> None:
        """Send what may be sent now."""
        while self._connection and self._timer is None and len(self._on_way) < self._window:
            entry = self._next()
            if entry is None:
                return
            if self._is_behind(entry) or self._must_wait(entry):
                self._put_back(entry)
                return
            self._send(entry)

    def _next(self) -> Entry | None:
        return self._again.pop(0) if self._again else self._outbox.take()

    def _is_behind(self, entry: Entry) -> bool:
        """Whether another of its topic must come back first."""
        key = entry.key
        return key in self._one_by_one and any(one.key == key for one in self._on_way.values())

    def _must_wait(self, entry: Entry) -> bool:
        """Whether the rate of a replay is used up; what came after the connection is not held."""
        at_s = self._loop.time()
        if not self._rate or self._outbox.age_s(entry) <= at_s - self._up_since_s:
            return False
        passed_s, self._counted_s = at_s - self._counted_s, at_s
        most = max(1.0, self._rate * _SECOND_S / 10)
        self._allowance = min(most, self._allowance + passed_s * self._rate)
        if self._allowance >= 1:
            self._allowance -= 1
            return False
        self._pause(max(0.01, (1 - self._allowance) / self._rate))
        return True

    def _send(self, entry: Entry) -> None:
        try:
            publication = _DECODER.decode(entry.data)
        except msgspec.MsgspecError:
            log.exception("the outbox holds something that is no result; it is left out")
            self._outbox.done(entry, is_refused=True)
            return
        if publication.expiry_s is not None:
            left_s = max(1, round(publication.expiry_s - self._outbox.age_s(entry)))
            publication = publication._replace(expiry_s=left_s)
        if entry.may_be_sent and DUP not in publication.properties:
            publication = publication._replace(properties=(*publication.properties, DUP))
        limit = self.max_packet_bytes
        if limit is not None and publication.size_bytes > limit:
            log.warning('a result on "%s" is larger than the broker takes', publication.topic[:128])
            self._outbox.done(entry, is_refused=True)
            return
        self._on_way[self._session.publish(publication)] = entry


def identify(message: Message, binding: str) -> bytes:
    """What a request is known by when the broker delivers it again, 16 bytes.

    Packet identifiers come again on redelivery (MQTT 5.0, 4.4), so that they tell equal requests
    apart that are open at the same time.
    """
    parts = (
        message.mid.to_bytes(4, "big"),
        message.topic.encode("utf-8", "surrogatepass"),
        (message.response_topic or "").encode("utf-8", "surrogatepass"),
        message.correlation or b"",
        binding.encode(),
        message.payload,
    )
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()


def _nothing() -> None:
    pass
