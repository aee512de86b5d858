"""Bindings at work: messages of the broker to the dataplane, results back, and then the PUBACK.

Decides which messages are taken and when each is acknowledged: a QoS 1 request only when all that
came of it is in the broker's hands, in the order of arrival, on the connection it arrived on. Work
on one message is ``work.py``; what a binding is, ``binding_set.py``; the broker, a BrokerSession.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from typing import Any

from edged.config.binding import BindingConfig
from edged.manifest import ManifestOf
from edged.protocol.broker_session import (
    BrokerSession,
    Connected,
    Disconnected,
    Message,
    Publication,
    Published,
    SessionEvent,
    Subscribed,
    Unsubscribed,
)
from edged.protocol.mqtt import DRAINING, ONLINE, BaseTopics
from edged.transports.bindings.announcer import Announcer, say_goodbye
from edged.transports.bindings.arrival import Arrival, take_answered
from edged.transports.bindings.binding import Route
from edged.transports.bindings.binding_set import BindingSet, prepare_bindings
from edged.transports.bindings.branch import Branch
from edged.transports.bindings.counters import BindingCounters, SessionCounters
from edged.transports.bindings.forwarding import Forwarder
from edged.transports.bindings.job_kinds import job_kind
from edged.transports.bindings.keyed_states import KeyedStates
from edged.transports.bindings.made import MadeAnswers
from edged.transports.bindings.outlet import Door
from edged.transports.bindings.places import Places
from edged.transports.bindings.plain import PlainWay
from edged.transports.bindings.plain_answers import Together
from edged.transports.bindings.profiles import Profiles
from edged.transports.bindings.subscriber import Subscriber
from edged.transports.bindings.subscriptions import SubscriptionMemory
from edged.transports.bindings.work import Job, ignore

log = logging.getLogger("edged.mqtt")

_GOODBYE_S = 2.0
"""How long a stopping daemon waits for the broker to take its last words."""
_QUIET_S = 0.25
"""When nothing came so long after the last acknowledgement, a group that we left has no more."""


class Bindings:
    """The bindings of one broker session.

    Args:
        session: the broker.
        door: the dataplane.
        base: our own topics lie below it.
        executor: decodes pictures and large payloads.
        max_inflight: messages worked on at a time; QoS 1 beyond it waits un-acknowledged, QoS 0 is
            dropped and counted.
        places: the same, and how many of them the broker may take; None = all.
        memory: where the session's filters are remembered across processes.
        steps_back: leave the groups of shared filters while every place is taken.
        on_change: called when ``problem`` may have changed.
        ack_early: break the promise on purpose, for tests that must notice.
        forwarder: takes the results that go to another broker; None = there is none.
        states: what bindings remember; None = nothing of earlier times, and in memory alone.
        branch: told of the connection, and sends over it what others have for this broker.
        is_main: speaks for the daemon; else it says nothing of itself.
    """

    def __init__(
        self,
        session: BrokerSession,
        door: Door,
        *,
        base: str,
        executor: Executor,
        max_inflight: int = 64,
        places: Places | None = None,
        memory: SubscriptionMemory | None = None,
        steps_back: bool = False,
        on_change: Callable[[], None] | None = None,
        ack_early: bool = False,
        forwarder: Forwarder | None = None,
        branch: Branch | None = None,
        states: KeyedStates | None = None,
        is_main: bool = True,
    ) -> None:
        self.session, self.forwarder = session, forwarder
        self._send: Callable[[Publication], None] | None = getattr(session, "send", None)
        self._together = session if isinstance(session, Together) else None
        self._branch = branch or Branch()
        self._branch.send = self.publish
        self.door, self.executor = door, executor
        self.made, self.states = MadeAnswers(), states or KeyedStates()
        self.lanes, self.topics = self.states.lanes, BaseTopics(base)
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.max_packet_bytes: int | None = None
        self.counters = SessionCounters()
        self.profiles = Profiles(lambda one: self.publish(one, ignore), self.loop.call_later)
        memory = memory or SubscriptionMemory.none()
        self._subscriber = Subscriber(session, memory, steps_back=steps_back)
        self._changed = on_change or (lambda: None)
        self._ack_early, self._is_main = ack_early, is_main
        self._set, self._places = BindingSet((), self.topics), places or Places(max_inflight)
        self._by_binding: dict[str, BindingCounters] = {}
        self._connection, self._is_draining = 0, False  # 0 = none is up
        self._order, self._waiting = deque[Arrival](), deque[Arrival]()
        self._jobs: set[Any] = set()  # Job or PlainWork
        self._is_pumping, self._in_flight, self._shared_s = False, 0, 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self._waiters: dict[int, Callable[[Published], None]] = {}
        self._announcer, self._session_kind = Announcer(self.topics, self.say), ""
        shared = (self._jobs, self._waiters, self.counters)
        self._plain = PlainWay(self, session, shared, self._parts_done, self._start_job)
        self._lost: Disconnected | None = None

    def prepare(self, configs: Sequence[BindingConfig], of: ManifestOf | None = None) -> BindingSet:
        """Make a set that could be swapped in; changes nothing.

        Args:
            configs: as written.
            of: manifests of the models as they will be; default: as they are.

        Raises:
            FieldError: with the path ``bindings[i]…``.
        """
        return prepare_bindings(configs, of or self.door.manifest, self.topics)

    def swap(self, bindings: BindingSet) -> None:
        """Use this set for all messages from now on; work in hand ends by the old one.

        Who leaves a group still answers what its broker had given to us before it heard of that.
        """
        bindings.inherit(self._set)
        bindings = bindings.after(self._set)
        self._set = bindings
        self._plain.swap(bindings)
        self.profiles.want(bindings)
        self._by_binding = {
            binding.name: self._by_binding.get(binding.name) or BindingCounters()
            for binding in (*bindings.leaving, *bindings.bindings)
        }
        self._subscriber.want(bindings.filters(), bindings.names())

    def start(self) -> None:
        """Connect; a broker that is away is waited for."""
        self.session.start(self.loop, self._on_event)

    def announce(self, info: Mapping[str, Any], models: Sequence[Any]) -> None:
        """Publish who we are and what we serve, retained, now and after every reconnect."""
        self._announcer.announce(info, models)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, finish what is in hand, say goodbye; the broker keeps the rest for us.

        Args:
            timeout_s: for the work in hand; what is not done by then is delivered again.
        """
        until_s = self.loop.time() + timeout_s
        self.say(Publication(self.topics.status, DRAINING, retain=True))
        await self._leave_groups(until_s)
        self._is_draining = True
        try:
            if not self._idle.is_set():
                await asyncio.wait_for(self._idle.wait(), max(0, until_s - self.loop.time()))
        except asyncio.TimeoutError:
            log.warning("%d messages are left for the next start", self._in_flight)
        if self._connection and self._is_main:
            await say_goodbye(self.topics, self.publish, _GOODBYE_S)
        await self.session.stop(_GOODBYE_S)
        self._forget()

    async def _leave_groups(self, until_s: float) -> None:
        """Give back shared filters, and answer what was given to us; no other member gets it."""
        if not await self._subscriber.leave(max(0, until_s - self.loop.time())):
            return
        # What the broker sent before it heard of it came before its word: where it was quiet then,
        # there is nothing to wait for.
        while self.loop.time() < until_s and self._connection:
            is_quiet = self.loop.time() - self._shared_s >= _QUIET_S and not self._waiting
            if is_quiet and not any(arrival.is_shared for arrival in self._order):
                return
            await asyncio.sleep(_QUIET_S / 5)
        log.warning("requests of shared filters may be left at the broker for the next start")

    @property
    def problem(self) -> str | None:
        """Why messages do not flow, for people, or None while they do."""
        for text, reason in self._subscriber.refused.items():
            return f'the broker refuses the subscription to "{text}": {reason}'
        if self._connection:
            return None
        return self._lost.reason if self._lost else "not connected to the broker yet"

    def stats(self) -> dict[str, Any]:
        """The session's figures and those of each binding, for the status page."""
        return {
            **self.session.stats(),
            "session": self._session_kind or None,
            "oldest_unacked_s": self._order[0].age_s() if self._order else None,
            "in_flight": self._in_flight,
            "waiting": len(self._waiting),
            "places": self._places.now,
            **self._subscriber.stats(),
            "problem": self.problem,
            "results": self.forwarder.stats() if self.forwarder is not None else None,
            **asdict(self.counters),
            "states": self.states.stats(),
            "births": self.profiles.births.stats(),
            "bindings": {b.name: self._by_binding[b.name].as_dict() for b in self._set.bindings},
        }

    @property
    def is_crowded(self) -> bool:
        """Whether more than half of what models share is taken, also by what is behind others."""
        return max(self._in_flight, len(self._order)) * 2 > self._places.shared

    def is_current(self, connection: int) -> bool:
        """Whether the connection a message arrived on is still up."""
        return connection == self._connection

    def publish(self, publication: Publication, on_published: Callable[[Published], None]) -> None:
        """Send, and hear when the broker has it; never heard when the connection is lost first."""
        self.counters.published += 1
        self.counters.published_bytes += len(publication.payload)
        if self._send is not None and on_published is ignore and not publication.qos:
            self._send(publication)
            return
        self._waiters[self.session.publish(publication)] = on_published

    def say(self, publication: Publication) -> None:
        """Publish something about ourselves, unless the broker would end the connection for it."""
        if publication.size_bytes > (self.max_packet_bytes or publication.size_bytes):
            log.warning("%s is larger than the broker takes: not said", publication.topic)
        elif self._connection and self._is_main:
            self.publish(publication, ignore)

    def _on_event(self, event: SessionEvent) -> None:
        if isinstance(event, Message):
            self._on_message(event)
        elif isinstance(event, Connected):
            self._on_connected(event)
        elif isinstance(event, Disconnected):
            self._on_disconnected(event)
        elif event.connection == self._connection:
            self._on_answered(event)

    def _on_answered(self, event: Published | Subscribed | Unsubscribed) -> None:
        if isinstance(event, Published):
            if (on_published := self._waiters.pop(event.token, None)) is not None:
                on_published(event)
        else:
            self._subscriber.answered(event)
            self._changed()

    def _on_connected(self, event: Connected) -> None:
        self._forget()
        self._connection, self._lost = event.connection, None
        self._session_kind = "kept" if event.session_present else "new"
        if not event.session_present:
            self.made.forget()
        self.max_packet_bytes = event.maximum_packet_bytes
        self._subscriber.connected()
        status = DRAINING if self._is_draining else ONLINE
        self.say(Publication(self.topics.status, status, retain=True))
        self._announcer.again()
        self.profiles.discovery.connected()
        self._branch.notice(event)
        self._changed()

    def _on_disconnected(self, event: Disconnected) -> None:
        self._lost = event
        self._forget()
        self._changed()

    def _forget(self) -> None:
        """Drop all that belongs to a connection that is gone: the broker delivers it again."""
        if self._connection:
            self._branch.notice(self._lost or Disconnected(self._connection, "stopped", False))
        self._connection = 0
        for job in self._jobs:
            job.abandon()
        for kept in (self._order, self._waiting, self._waiters, self._jobs):
            kept.clear()
        self._subscriber.lost()
        self._in_flight = 0
        self._plain.forget()
        self._idle.set()

    def _on_message(self, message: Message) -> None:
        if self._is_draining or message.connection != self._connection:
            return  # stays un-acknowledged: the broker keeps it for the next connection
        arrival = Arrival(message)
        if self._in_flight >= self._places.most:
            self._plain.settle()
        if message.qos == 0:
            if self._in_flight < self._places.most:
                self._take(arrival)
            else:
                self.counters.dropped += 1
            return
        if not message.dup:
            self.made.arrived(message.mid)
        self._order.append(arrival)
        if self._ack_early:
            self.counters.early_acks += 1
            self._acknowledge([message])
        if self._in_flight < self._places.most:
            self._take(arrival)
        else:
            self._waiting.append(arrival)
        if self._subscriber.steps_back:
            self._subscriber.weigh(len(self._order), self._places.now)

    def _take(self, arrival: Arrival) -> None:
        """Hand a message to every binding it belongs to."""
        self._in_flight += 1
        self._idle.clear()
        message = arrival.message
        self.counters.received_bytes += len(message.payload)
        if message.retain:
            # Old state the broker kept, not a request made now; it would run again at each start.
            self.counters.retained += 1
        else:
            routes = self._set.routes(message.topic, message.subscriptions)
            if not routes and not self.profiles.hears(message.topic, message.payload):
                self.counters.unmatched += 1
                self._set.say_stray(message.topic)
            arrival.is_shared = self._set.has_groups and self._set.is_shared(routes)
            if arrival.is_shared:
                self._shared_s = self.loop.time()
            if self._plain.takes(routes, arrival, self._by_binding):
                return  # the hand-out's part is its work's from here on
            arrival.open_jobs += len(routes)
            for route in routes:
                self._start_job(route, arrival)
        self._parts_done((arrival,))

    def _start_job(self, route: Route, arrival: Arrival) -> None:
        def on_done(job: Job) -> None:
            self._jobs.discard(job)
            self._parts_done((arrival,))

        counters = self._by_binding.setdefault(route.binding.name, BindingCounters())
        kind = job_kind(route)
        job = kind(self, route, self._set, arrival.message, counters=counters, on_done=on_done)
        self._jobs.add(job)
        job.start()

    def _parts_done(self, arrivals: Sequence[Arrival]) -> None:
        before = self._in_flight
        for arrival in arrivals:
            arrival.open_jobs -= 1
            if not arrival.open_jobs and arrival.message.connection == self._connection:
                self._in_flight -= 1
        if self._in_flight == before:
            return
        done = take_answered(self._order)
        if any(one.is_shared for one in done):
            self._shared_s = self.loop.time()
        if done and not self._ack_early:
            self._acknowledge([one.message for one in done])
        self._pump()
        self._subscriber.weigh(len(self._order), self._places.now)
        if self._in_flight == 0:
            self._idle.set()

    def _acknowledge(self, messages: Sequence[Message]) -> None:
        self.counters.acknowledged += len(messages)
        if self._together is not None and len(messages) > 1:
            self._together.ack_together(messages)
        else:
            for message in messages:
                self.session.ack(message)

    def _pump(self) -> None:
        """Take what waits while there is room; a loop, for some messages are done at once."""
        if self._is_pumping or not self._waiting:
            return
        self._is_pumping = True
        try:
            while self._waiting and self._in_flight < self._places.most and not self._is_draining:
                self._take(self._waiting.popleft())
        finally:
            self._is_pumping = False
            self._plain.soon()
