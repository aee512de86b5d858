"""A client's side of one MQTT connection: bytes in, events and bytes out, no socket and no clock.

Decides what each packet means, when the next may leave, and what a broker is told that breaks the
specification. When to connect again is the transport's.

A message whose text nobody can read spoils nothing but itself: it is acknowledged, with a reason
where the version has one, counted and not given on. Everything else that breaks a clause ends the
connection.
Source: MQTT 5.0 and MQTT 3.1.1, section 4.
"""

from __future__ import annotations

from collections.abc import Callable

from edged.errors import LocalProtocolError
from edged.protocol import mqtt_reasons as reasons
from edged.protocol import mqtt_wire as wire
from edged.protocol.broker_session import (
    Connected,
    Message,
    Publication,
    Published,
    SessionEvent,
    Subscribed,
    Unsubscribed,
)
from edged.protocol.mqtt import before_v5, subscription_id
from edged.protocol.mqtt_inflow import Inflow
from edged.protocol.mqtt_outflow import Asked, Outflow
from edged.protocol.mqtt_outgoing import Outgoing
from edged.protocol.mqtt_packets import (
    NO_WORDS,
    Connack,
    check_kind,
    message_words,
    publish_identity,
    read_ack,
    read_connack,
    read_disconnect,
    read_empty,
    read_publish,
    read_suback,
    read_unsuback,
)
from edged.protocol.mqtt_properties import Property
from edged.protocol.mqtt_rules import BrokenRuleError, Rule
from edged.protocol.mqtt_terms import Terms
from edged.protocol.mqtt_together import JOINED_BYTES, Together
from edged.protocol.mqtt_writer import (
    PINGREQ,
    Hello,
    write_ack,
    write_connect,
    write_disconnect,
    write_publish_head,
    write_subscribe,
    write_unsubscribe,
)

Emit = Callable[[SessionEvent], None]
UNTOLD = -1
"""The token of a publication of QoS 0 whose end nobody waits for."""


class ClientSession:
    """One connection, from CONNECT to the last byte.

    Args:
        hello: what CONNECT says.
        number: of the connection, for its events.
        emit: takes events, while ``receive`` and ``take`` run; must not raise.
        received: identifiers of QoS 2 that outlive connections; see ``Inflow``.
        bears_excess: see ``Inflow``.
        on_unsent: called with the reason when a publication is refused whose token is UNTOLD.
        on_taken: given the token of one that the broker took; False = an event is to tell of it.
    """

    def __init__(
        self,
        hello: Hello,
        number: int,
        emit: Emit,
        received: set[int] | None = None,
        *,
        bears_excess: bool = False,
        on_unsent: Callable[[str], None] = lambda _: None,
        on_taken: Callable[[int], bool] = lambda _: False,
    ) -> None:
        self.is_up = self.is_over = self.is_broken = False
        self.reason_code: int | None = None
        self.reason = ""
        self.rejected, self.rejection = 0, ""
        self.heard_ns = 0
        self._hello, self._is_v5 = hello, hello.is_v5
        self._on_unsent, self._on_taken = on_unsent, on_taken
        self._number = number
        self._emit = emit
        self.reader = wire.PacketReader(hello.maximum_packet_bytes or wire.LENGTH_CAP + 5)
        limit = hello.receive_maximum if hello.is_v5 else None
        aliases = hello.topic_aliases if hello.is_v5 else 0
        kept = set() if received is None else received
        self._in = Inflow(limit, aliases, kept, bears_excess=bears_excess)
        self._outflow = Outflow(hello.window)
        self.outgoing = Outgoing(write_connect(hello))
        self._said_ns = self._pinged_ns = 0
        self._terms = terms = Terms.before(hello)
        self.together = Together(self._in, self._outflow, self.outgoing, terms, is_v5=self._is_v5)

    @property
    def excess(self) -> tuple[int, str]:
        """Messages beyond the Receive Maximum that were borne, and words for the first."""
        return self._in.excess, self._in.excess_words

    def receive(self, data: bytes, now_ns: int) -> None:
        """Read what came; events are emitted meanwhile.

        Args:
            data: any piece of the stream.
            now_ns: monotonic clock, nanoseconds.
        """
        if self._has_ended():
            return
        self.heard_ns = now_ns
        try:
            for first, body, at, end in self.reader.feed(data):
                if first & 0xF0 == wire.PUBLISH and self.is_up:
                    self._on_publish(first, body, at, end, now_ns)
                elif first == wire.PUBACK and end - at == 2 and self.is_up:
                    self._on_puback(body[at] << 8 | body[at + 1])
                else:
                    self._on_packet(first, body, at, end)
                if self.is_over:
                    return
        except BrokenRuleError as exc:
            self._refuse(exc)

    def _has_ended(self) -> bool:
        return self.is_over

    def take(self, now_ns: int) -> bytes:
        """All that is to be written; what follows from its leaving is emitted."""
        data = self.outgoing.take()
        if data:
            self._said_ns = now_ns
        for event in self.outgoing.due():
            self._emit(event)
        return data

    def tick(self, now_ns: int) -> None:
        """Ask for a sign of life where either side was quiet for the keep alive."""
        ping_ns = self._terms.ping_ns
        if not self.is_up or self.is_over or not ping_ns:
            return
        quiet_since = max(min(self._said_ns, self.heard_ns), self._pinged_ns)
        if now_ns - quiet_since >= ping_ns:
            self._pinged_ns = now_ns
            self.outgoing.say(PINGREQ)

    def subscribe(self, token: int, filters: tuple[tuple[str, int], ...]) -> None:
        """Send SUBSCRIBE; one packet for each filter where the broker takes numbers."""
        if self.is_over or not filters:
            return
        asked = Asked(token)
        if not self._terms.numbers_filters:
            self._subscribe(asked, filters, None)
            return
        for text, qos in filters:
            self._subscribe(asked, ((text, qos),), subscription_id(text))

    def _subscribe(
        self, asked: Asked, filters: tuple[tuple[str, int], ...], number: int | None
    ) -> None:
        packet_id = self._outflow.new_id()
        words = write_subscribe(
            packet_id, filters, is_v5=self._is_v5, number=number,
            takes_retained=self._hello.takes_retained,
        )  # fmt: skip
        self.outgoing.say(words)
        self._outflow.subscribing(packet_id, asked, tuple(text for text, _ in filters))

    def unsubscribe(self, token: int, filters: list[str]) -> None:
        """Send UNSUBSCRIBE."""
        if self.is_over or not filters:
            return
        packet_id = self._outflow.new_id()
        self.outgoing.say(write_unsubscribe(packet_id, filters, is_v5=self._is_v5))
        self._outflow.unsubscribing(packet_id, token, len(filters))

    def publish(self, token: int, publication: Publication) -> None:
        """Send PUBLISH once the broker's window has room, in order; UNTOLD hears nothing of it."""
        if self.is_over:
            return
        if publication.qos > 1 and not self._is_v5:
            self._outflow.window = 1  # see Outflow
        if self._outflow.must_wait(publication):
            self._outflow.queue(token, publication)
        else:
            self._send(token, publication)

    def _send(self, token: int, publication: Publication) -> None:
        """Write a PUBLISH, or say why not; never at once, for the caller awaits its token."""
        publication = publication if self._is_v5 else before_v5(publication)
        qos, payload = publication.qos, publication.payload
        terms = self._terms
        if qos > terms.highest_qos == 1:
            publication, qos = publication._replace(qos=1), 1
        elif qos > terms.highest_qos:
            self.refuse(token, reasons.QOS_NOT_SUPPORTED, f"QoS {qos} is more than is sent")
            return
        if publication.retain and not terms.takes_retained:
            self.refuse(token, reasons.RETAIN_NOT_SUPPORTED, "the broker keeps no messages")
            return
        alias, is_known = 0, False
        packet_id = self._outflow.new_id() if qos else 0
        if qos and not packet_id:
            self.refuse(token, reasons.QUOTA_EXCEEDED, "no packet identifier is free")
            return
        try:
            if not self._outflow.most_aliases:
                head = write_publish_head(publication, packet_id, is_v5=self._is_v5)
            else:
                alias, is_known = self._outflow.alias(publication.topic)
                head = write_publish_head(
                    publication, packet_id, is_v5=True, alias=alias, is_known=is_known
                )
        except (LocalProtocolError, OverflowError, UnicodeError) as exc:
            self.refuse(token, reasons.IMPLEMENTATION, f"MQTT cannot say it: {exc}")
            return
        size = len(head) + len(payload)
        if size > terms.maximum_packet:
            words = f"{size} bytes; the broker takes {terms.maximum_packet}"
            self.refuse(token, reasons.TOO_LARGE, words)
            return
        if len(payload) <= JOINED_BYTES:
            self.outgoing.say(head + payload)
        else:
            self.outgoing.say(head)
            self.outgoing.say(payload)
        if alias and not is_known:
            self._outflow.aliased(publication.topic, alias)
        if qos:
            self._outflow.sent(packet_id, token, qos)
        elif token != UNTOLD:
            self.outgoing.tell(Published(self._number, token))

    def refuse(self, token: int, reason: int, words: str) -> None:
        """Say that a publication is not sent, when events are due."""
        if token == UNTOLD:
            self._on_unsent(words)
        else:
            self.outgoing.tell(Published(self._number, token, reason, words))

    def ack(self, packet_id: int) -> None:
        """Acknowledge a message of QoS 1 or 2; it leaves in the order of arrival."""
        self._answer(packet_id, reasons.SUCCESS)

    def _answer(self, packet_id: int, reason: int) -> None:
        if self.is_over:
            return
        qos, answers = self._in.answer(packet_id, reason)
        kind = wire.PUBACK if qos == 1 else wire.PUBREC
        for number, code in answers:
            self.outgoing.acknowledge(write_ack(kind, number, code, is_v5=self._is_v5))

    def disconnect(self) -> None:
        """Send DISCONNECT behind all that waits to be written; nothing follows it."""
        if not self.is_over:
            self.outgoing.say(write_disconnect(is_v5=self._is_v5))
            self.is_over = True

    # What comes in

    def _on_publish(self, first: int, data: bytes, at: int, end: int, now_ns: int) -> None:
        try:
            publish = read_publish(first, data, at, end, is_v5=self._is_v5)
        except BrokenRuleError as exc:
            if not exc.rule.spares:
                raise
            self._reject(exc, *publish_identity(first, data, at, end), dup=bool(first & 8))
            return
        packet_id, topic, payload, qos, retain, dup, alias, properties = publish
        if alias:
            topic = self._in.topic(publish)
        if qos and not self._in.take(packet_id, qos, dup=dup, is_v5=self._is_v5):
            if packet_id in self._in.received:
                self.outgoing.say(write_ack(wire.PUBREC, packet_id, is_v5=self._is_v5))
            return
        more = message_words(properties) if properties else NO_WORDS
        said = (self._number, packet_id, topic, payload, qos, retain, dup, now_ns)
        self._emit(tuple.__new__(Message, said + more))

    def _reject(self, why: BrokenRuleError, qos: int, packet_id: int, *, dup: bool) -> None:
        self.rejected += 1
        self.rejection = why.message
        if qos and self._in.take(packet_id, qos, dup=dup, is_v5=self._is_v5):
            self._answer(packet_id, reasons.IMPLEMENTATION)

    def _on_packet(self, first: int, data: bytes, at: int, end: int) -> None:
        is_v5 = self._is_v5
        kind = first & 0xF0 if first & 0xF0 == wire.PUBLISH else check_kind(first, is_v5=is_v5)
        if kind == wire.CONNACK:
            self._on_connack(read_connack(data, at, end, is_v5=is_v5))
        elif kind == wire.AUTH:
            raise BrokenRuleError(Rule.AUTH_UNASKED, "AUTH")
        elif not self.is_up:
            is_early = kind == wire.DISCONNECT
            rule = Rule.DISCONNECT_EARLY if is_early else Rule.CONNACK_FIRST
            raise BrokenRuleError(rule, f"{wire.NAMES[kind]} before CONNACK")
        elif kind in {wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP}:
            self._on_ack(kind, data, at, end)
        elif kind == wire.SUBACK:
            self._on_suback(data, at, end)
        elif kind == wire.UNSUBACK:
            unsuback = read_unsuback(data, at, end, is_v5=is_v5)
            count = len(unsuback.reasons) if is_v5 else None
            token = self._outflow.unsubscribed(unsuback.packet_id, count)
            self._emit(Unsubscribed(self._number, token))
        elif kind == wire.PINGRESP:
            read_empty(kind, data, at, end)
        else:
            goodbye = read_disconnect(data, at, end)
            self.reason_code = goodbye.reason
            said = reasons.words(goodbye.reason, goodbye.words)
            self.reason = f"the broker disconnected us: {said}"
            self.is_over = True

    def _on_connack(self, connack: Connack) -> None:
        if self.is_up:
            raise BrokenRuleError(Rule.CONNACK_ONCE, "a second CONNACK")
        properties = connack.properties
        if connack.reason:
            self.reason_code = connack.reason
            said = reasons.words(connack.reason, properties.get(Property.REASON_STRING, ""))
            self.reason = f"the broker refused us: {said}"
            self.is_over = True
            return
        self.is_up = True
        if not connack.session_present:
            self._in.received.clear()
        self._terms = self.together.terms = terms = Terms.of(connack, self._hello)
        self._outflow.window, self._outflow.most_aliases = terms.window, terms.topic_aliases
        self._emit(
            Connected(
                self._number,
                "5" if self._is_v5 else "3.1.1",
                connack.session_present,
                terms.receive_maximum,
                terms.announced_packet,
            )
        )

    def _on_ack(self, kind: int, data: bytes, at: int, end: int) -> None:
        ack = read_ack(kind, data, at, end, is_v5=self._is_v5)
        if kind == wire.PUBREL:
            known = self._in.release(ack.packet_id)
            code = reasons.SUCCESS if known else reasons.PACKET_ID_NOT_FOUND
            self.outgoing.say(write_ack(wire.PUBCOMP, ack.packet_id, code, is_v5=self._is_v5))
            return
        is_failure = ack.reason >= reasons.FIRST_FAILURE
        token = self._outflow.answered(kind, ack.packet_id, is_failure=is_failure)
        if token is None:
            self.outgoing.say(write_ack(wire.PUBREL, ack.packet_id, is_v5=self._is_v5))
            return
        words = reasons.words(ack.reason, ack.words) if is_failure else ""
        self._emit(Published(self._number, token, ack.reason if is_failure else 0, words))
        self._send_due()

    def _on_puback(self, packet_id: int) -> None:
        """The broker has a publication: nearly every second packet is this one."""
        if not packet_id:
            raise BrokenRuleError(Rule.PACKET_ID, "PUBACK with packet identifier 0")
        token = self._outflow.acknowledged(packet_id)
        if not self._on_taken(token):
            self._emit(Published(self._number, token))
        if self._outflow.waiting:
            self._send_due()

    def _send_due(self) -> None:
        for waiting in self._outflow.due():
            self._send(*waiting)

    def _on_suback(self, data: bytes, at: int, end: int) -> None:
        suback = read_suback(data, at, end, is_v5=self._is_v5)
        asked, filters = self._outflow.subscribed(suback.packet_id, len(suback.reasons))
        asked.failures += [
            (text, reasons.words(code, suback.words))
            for text, code in zip(filters, suback.reasons, strict=True)
            if code >= reasons.FIRST_FAILURE
        ]
        if asked.open_packets == 0:
            self._emit(Subscribed(self._number, asked.token, tuple(asked.failures)))

    def _refuse(self, why: BrokenRuleError) -> None:
        """End the connection, and tell a broker of MQTT 5 why."""
        self.is_over = self.is_broken = True
        self.reason = f"the broker broke the rules: {why.message}"
        if self.is_up and self._is_v5:
            self.outgoing.say(write_disconnect(why.rule.reason))
