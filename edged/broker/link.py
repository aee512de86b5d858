"""The broker's side of the house: one session, made, changed in place, replaced or ended.

Decides whether a changed configuration needs another session; what bindings do is
``transports/bindings/bindings.py``'s. A session is never opened twice: the old one has said goodbye
before a new one connects under the same name.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged.broker.aside import open_desired, open_questions
from edged.broker.keeping import Keeping
from edged.broker.moves import rest
from edged.broker.options import results_options, session_options, tls_digest
from edged.broker.results import Results, open_way
from edged.broker.sparkplug import open_node
from edged.config.binding import BindingConfig
from edged.config.feed import FeedConfig
from edged.config.identity import base_topic, node_name
from edged.config.load import Snapshot
from edged.config.mqtt import MqttConfig
from edged.errors import ApplyError
from edged.manifest import ManifestOf
from edged.protocol.broker_session import Publication
from edged.protocol.mqtt import JSON, BaseTopics, encode_document
from edged.serving.dataplane import Dataplane
from edged.system.cores import spread
from edged.telemetry.health import Health

if TYPE_CHECKING:
    from edged.transports.bindings.binding import Binding
    from edged.transports.bindings.binding_set import BindingSet
    from edged.transports.bindings.branch import Branch
    from edged.transports.bindings.desired import DesiredTopic, Offer
    from edged.transports.bindings.feeds import Feeds
    from edged.transports.bindings.questions import Call, Questions
    from edged.transports.bindings.sessions import Sessions
    from edged.transports.bindings.sparkplug_node import SparkplugNode
    from edged.transports.mqtt.connection import SessionOptions

log = logging.getLogger("edged.mqtt")

ACK_EARLY = "EDGED_TEST_ACK_EARLY"
_STOP_S = 5.0


class BrokerLinks:
    """Bindings and their session; without a ``mqtt:`` section nothing of MQTT is even imported.

    Args:
        dataplane: the one door.
        health: where a lost broker is noted.
        state_dir: where the session's subscriptions are noted.
        calls: what can be asked of the daemon; ``mqtt.questions`` says which of them over MQTT.
        keeping: what bindings remember.
        speaks: says on its broker how the daemon is; else another session with it does.
    """

    def __init__(
        self,
        dataplane: Dataplane,
        health: Health,
        state_dir: Path,
        calls: Mapping[str, Call] | None = None,
        *,
        keeping: Keeping | None = None,
        speaks: bool = True,
    ) -> None:
        self._calls, self._speaks = calls or {}, speaks
        self._questions: Questions | None = None
        self._desired: DesiredTopic | None = None
        self._reported: dict[str, Any] | None = None
        self.offer: Offer | None = None
        """Takes what comes on ``config/desired``; asked only where ``mqtt.desired`` is."""
        self._timer: asyncio.TimerHandle | None = None
        self._dataplane = dataplane
        self._health = health
        self._state_dir = state_dir
        self._bindings: Sessions | None = None
        self._prepared: BindingSet | None = None
        self._wanted: BindingSet | None = None
        """With those that wait for their model."""
        self._identity: tuple[object, ...] = ()
        self._decoders: ThreadPoolExecutor | None = None
        self._announced: tuple[dict[str, Any], list[dict[str, Any]]] | None = None
        self._results: Results | None = None
        self._feeds: Feeds | None = None
        self._node: SparkplugNode | None = None
        self._keeping = keeping or Keeping(state_dir, health)
        self._swapping = asyncio.Lock()
        self._is_drained = False

    def prepare(
        self, snapshot: Snapshot, bindings: Sequence[BindingConfig], of: ManifestOf
    ) -> BindingSet | None:
        """Make bindings that could serve.

        Raises:
            FieldError: one of them cannot; with the path ``bindings[i]...``.
        """
        if snapshot.config.mqtt is None:
            return None
        from edged.transports.bindings.binding_set import prepare_bindings  # noqa: PLC0415 - only if used
        from edged.transports.bindings.sizes import check_sizes  # noqa: PLC0415

        topics = BaseTopics(base_topic(snapshot.config))
        check_sizes(bindings, of, snapshot.config.mqtt)
        return prepare_bindings(bindings, of, topics, int(snapshot.config.limits.max_request))

    async def swap(self, snapshot: Snapshot, prepared: BindingSet | None) -> None:
        """Serve by these bindings from now on, and reconcile the broker connection."""
        async with self._swapping:
            await self._swap(snapshot, prepared)

    async def refresh(self, snapshot: Snapshot) -> None:
        """Look again at password and certificates; other ones mean another connection."""
        async with self._swapping:
            if self._prepared is not None:
                await self._swap(snapshot, self._prepared)

    async def _swap(self, snapshot: Snapshot, prepared: BindingSet | None) -> None:
        if self._is_drained:
            return
        mqtt = snapshot.config.mqtt
        self._prepared = prepared
        if mqtt is None or prepared is None:
            await self._end(_STOP_S)
            self._feed({})
            for key in ("mqtt", "mqtt.secret", "mqtt.results", "mqtt.sizes"):
                self._health.restore(key)
            return
        from edged.transports.bindings.binding_set import with_waiting  # noqa: PLC0415 - only if used

        prepared = self._wanted = with_waiting(prepared, snapshot.config.bindings)
        models = snapshot.config.models.items()
        rules = {name: one.publish for name, one in models if one.publish is not None}
        try:
            options = await asyncio.to_thread(session_options, snapshot, mqtt, speaks=self._speaks)
            others = await asyncio.to_thread(results_options, snapshot, mqtt, options)
            certificates = await asyncio.to_thread(tls_digest, snapshot, mqtt)
        except ApplyError as exc:
            # The old session keeps what it has: an unreadable new password costs nothing.
            self._health.degrade("mqtt.secret", exc.message)
            if self._bindings is not None:
                self._bindings.swap(prepared)
            return
        self._health.restore("mqtt.secret")
        if not self._keeping.is_usable:
            await self._end(_STOP_S)  # what cannot be remembered must not be acknowledged
            return
        # Everything that makes it another connection.
        passwords = (options.password, others.password if others is not None else None)
        names = (options.client_id, options.base, options.max_packet_bytes)
        identity = (mqtt, *names, passwords, certificates, bool(rules))
        if self._bindings is not None and identity == self._identity:
            if self._node is not None:
                self._node.keep([one.name for one in prepared.bindings if one.shown is not None])
            self._bindings.swap(prepared)
            self._review_sizes()
            self._feed(rules)
            return
        await self._end(_STOP_S)
        try:
            self._results, branch = await open_way(
                self._state_dir, mqtt, others, self._review_results, is_fed=bool(rules)
            )
        except ApplyError as exc:
            # Without a place to keep results no request may be taken; the broker keeps them.
            log.error("%s", exc.message)
            self._health.degrade("mqtt.results", exc.message)
            return
        if mqtt.sparkplug is not None:
            self._node = open_node(
                mqtt.sparkplug, node_name(snapshot.config), others or options, mqtt.client,
                self._review_node,
            )  # fmt: skip
        self._review_results()
        self._begin(mqtt, options, prepared, branch)
        self._identity = identity
        self._feed(rules)

    @property
    def bindings(self) -> BindingSet | None:
        """Those that are served; None without a broker."""
        return self._wanted if self._bindings is not None else None

    @property
    def is_subscribed(self) -> bool:
        """Whether the broker has confirmed all that we read."""
        return self._bindings is not None and self._bindings.is_subscribed

    async def give_back(self, others: Sequence[Binding], timeout_s: float) -> bool:
        """Read no more for some bindings, and answer what the broker has for us still; is that all?

        Args:
            others: those that go another way from now on.
            timeout_s: what comes later stays with the broker.
        """
        async with self._swapping:
            if self._bindings is None or self._wanted is None:
                return False
            if others:
                self._bindings.swap(self._wanted.left_by(others))
            has_rested = await rest(self._bindings, timeout_s)
            return has_rested and (self._results is None or self._results.are_delivered)

    def announce(self, info: dict[str, Any], models: list[dict[str, Any]]) -> None:
        """Publish what we are; kept and published again after each reconnect."""
        self._announced = (info, models)
        if self._bindings is not None:
            self._bindings.announce(info, models)

    def stats(self) -> dict[str, Any] | None:
        """For the status page; None without a broker."""
        if self._bindings is None:
            return None
        parts = {
            "results": self._results.forwarder if self._results is not None else None,
            "questions": self._questions,
            "sparkplug": self._node, "desired": self._desired,
        }  # fmt: skip
        return {
            **self._bindings.stats(),
            **{name: None if part is None else part.stats() for name, part in parts.items()},
            "feeds": self._feeds.stats() if self._feeds is not None else {},
            "max_packet_bytes": self._bindings.max_packet_bytes,
        }

    def report(self, document: dict[str, Any]) -> None:
        """Publish which configuration is in effect, where one may come over MQTT."""
        self._reported = document
        if self._desired is not None:
            self._desired.report(document)

    def cut(self) -> str:
        """Why the broker is out of reach; empty when it is not, or there is none."""
        if self._bindings is None or self._bindings.cut:
            # A swap opens its sessions anew; one that cannot be opened is out of reach too.
            return self._bindings.cut if self._bindings is not None else "no session"
        if self._desired is not None and not self._desired.is_connected:
            return "the session of config/desired"
        return ""

    def line(self) -> str:
        """A few words for the service manager's status line."""
        stats = self.stats()
        return f"mqtt {stats['state']}" if stats is not None else ""

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, finish what is in hand, and say goodbye."""
        async with self._swapping:
            self._is_drained = True
            await self._end(timeout_s)
        if self._decoders is not None:
            self._decoders.shutdown(wait=False, cancel_futures=True)

    def _feed(self, rules: Mapping[str, FeedConfig]) -> None:
        """Let the models' rules for publishing hear their answers."""
        if self._feeds is None:
            if not rules:
                return
            from edged.transports.bindings.feeds import Feeds  # noqa: PLC0415 - only if used

            self._feeds = Feeds()
        forwarder = self._results.forwarder if self._results is not None else None
        feeds = self._feeds.swap(rules, self._dataplane.manifest, forwarder)
        self._dataplane.tap({name: feed.note for name, feed in feeds.items()})

    def _begin(
        self,
        mqtt: MqttConfig,
        options: SessionOptions,
        prepared: BindingSet,
        branch: Branch | None,
    ) -> None:
        from edged.transports.bindings.bindings import Bindings  # noqa: PLC0415 - only if used
        from edged.transports.bindings.places import Places  # noqa: PLC0415
        from edged.transports.bindings.sessions import Sessions  # noqa: PLC0415
        from edged.transports.bindings.subscriptions import (  # noqa: PLC0415
            SubscriptionMemory,
            sessions_left,
        )
        from edged.transports.mqtt.clients import open_session  # noqa: PLC0415

        ack_early = os.environ.get(ACK_EARLY) == "1"
        if ack_early:
            log.warning(
                "%s is set: messages are acknowledged on arrival and CAN BE LOST", ACK_EARLY
            )
        if self._decoders is None:
            self._decoders = ThreadPoolExecutor(1, "edged-decode", initializer=spread)
        decoders = self._decoders

        def make(name: str | None) -> Bindings:
            words = options if name is None else options.named(name)
            own = Places(options.max_inflight, name, lambda: self._wanted, self._dataplane.places)
            made = Bindings(
                open_session(replace(words, places=own.take), mqtt.client),
                self._dataplane,
                base=options.base,
                executor=decoders,
                places=own,
                memory=SubscriptionMemory.of_session(self._state_dir, name),
                steps_back=mqtt.step_back,
                on_change=self._review,
                ack_early=ack_early,
                forwarder=self._results.forwarder if self._results and not branch else None,
                branch=branch if name is None else None,
                states=self._keeping.states,
                is_main=name is None and self._speaks,
            )
            made.profiles.node = self._node
            return made

        self._bindings = Sessions(make(None), make, sessions_left(self._state_dir))
        self._bindings.swap(prepared)
        if self._announced is not None:
            self._bindings.announce(*self._announced)
        if self._results is not None:
            self._results.forwarder.start()
            self._review_results()
        self._bindings.start()
        if mqtt.report:
            self._report(BaseTopics(options.base).metrics, mqtt.report.seconds)
        if mqtt.questions:
            self._questions = open_questions(mqtt, options, self._calls, self._is_input)
        if mqtt.desired is not None and self.offer is not None:
            self._desired = open_desired(mqtt, options, self.offer, self._reported)

    def _report(self, topic: str, every_s: float) -> None:
        """Publish what ``edged mqtt status`` shows, now and again."""
        self._timer = asyncio.get_running_loop().call_later(every_s, self._report, topic, every_s)
        if self._bindings is not None:
            payload = encode_document(self.stats() or {})
            self._bindings.say(Publication(topic, payload, qos=0, retain=True, content_type=JSON))

    def _is_input(self, topic: str) -> bool:
        return self._prepared is not None and self._prepared.is_input(topic)

    def _review_results(self) -> None:
        """Note that results do not flow, or cannot be kept."""
        results = self._results
        self._note("mqtt.results", results.forwarder.problem if results is not None else None)
        self._review_sizes()

    def _review_node(self) -> None:
        """Note that nothing is shown as Sparkplug."""
        self._note("mqtt.sparkplug", self._node.problem if self._node is not None else None)

    def _review(self) -> None:
        """Note a broker that is away, or that refuses what the bindings need."""
        self._note("mqtt", self._bindings.problem if self._bindings is not None else None)
        self._review_sizes()

    def _review_sizes(self) -> None:
        """Note what can never pass, now that the brokers have said what they take."""
        text = ""
        if self._bindings is not None and self._prepared is not None:
            from edged.transports.bindings.sizes import live_problem  # noqa: PLC0415 - only if used

            way = self._results.forwarder if self._results is not None else None
            of = self._dataplane.manifest
            text = live_problem(self._prepared.bindings, of, self._bindings, way)
        self._note("mqtt.sizes", text)

    def _note(self, key: str, problem: str | None) -> None:
        if problem:
            self._health.degrade(key, problem)
        else:
            self._health.restore(key)

    async def _end(self, timeout_s: float) -> None:
        bindings, self._bindings = self._bindings, None
        self._identity = ()
        if self._timer is not None:
            self._timer.cancel()
        asked, self._questions, self._desired = (self._questions, self._desired), None, None
        for one in asked:
            if one is not None:
                await one.stop()
        if bindings is not None:
            await bindings.drain(timeout_s)
        if self._feeds is not None:
            self._feeds.hold()
        node, self._node = self._node, None
        if node is not None:
            await node.stop()
            self._health.restore("mqtt.sparkplug")
        results, self._results = self._results, None
        if results is not None:
            await results.close()
