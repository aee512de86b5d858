"""Messages that came in on one connection: their aliases, and their acknowledgements in order.

Sans I/O. An acknowledgement leaves when all that arrived before it and has the same QoS were
acknowledged too, whatever the order in which they are given back (MQTT-4.6.0-2, -3).
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import Final

from edged.protocol.mqtt_packets import Publish
from edged.protocol.mqtt_rules import BrokenRuleError, Rule

Answers = list[tuple[int, int]]
"""Packet identifiers with reason codes, in the order in which they are to leave."""
_QOS_2: Final = 2


class Inflow:
    """What a broker sent on one connection.

    Args:
        receive_maximum: messages of QoS 1 and 2 that it may leave unacknowledged; None where the
            version cannot say so.
        aliases: the Topic Alias Maximum we announced.
        received: identifiers of QoS 2 whose PUBREC left and whose PUBREL did not come. They belong
            to the session, so they outlive this.
        bears_excess: count what comes beyond the Receive Maximum instead of refusing it.
    """

    __slots__ = (
        "_aliases", "_answered", "_bears_excess", "_highest", "_limit", "_open", "_order",
        "excess", "excess_words", "received",
    )  # fmt: skip

    def __init__(
        self,
        receive_maximum: int | None,
        aliases: int,
        received: set[int],
        *,
        bears_excess: bool = False,
    ) -> None:
        self.received = received
        self.excess = 0
        self.excess_words = ""
        self._bears_excess = bears_excess
        self._limit = receive_maximum
        self._highest = aliases
        self._aliases: dict[int, str] = {}
        self._open: dict[int, int] = {}
        self._answered: dict[int, int] = {}
        self._order: tuple[deque[int], deque[int]] = (deque(), deque())

    @property
    def unacknowledged(self) -> int:
        """Messages that take a place of the Receive Maximum."""
        return len(self._open) + len(self.received)

    def topic(self, publish: Publish) -> str:
        """The topic of a message, also of one that only names an alias; raises BrokenRuleError."""
        alias, topic = publish.alias, publish.topic
        if not alias:
            return topic
        if alias > self._highest:
            raise BrokenRuleError(
                Rule.PUBLISH_ALIAS_RANGE,
                f"PUBLISH with topic alias {alias}, of {self._highest} at most",
            )
        if topic:
            self._aliases[alias] = topic
            return topic
        known = self._aliases.get(alias)
        if known is None:
            raise BrokenRuleError(
                Rule.PUBLISH_ALIAS_UNKNOWN, f"PUBLISH by topic alias {alias} alone"
            )
        return known

    def take(self, packet_id: int, qos: int, *, dup: bool, is_v5: bool) -> bool:
        """Note a message of QoS 1 or 2; False where it is here already and not to be given on.

        Raises:
            BrokenRuleError: its identifier is in use, or there are too many.
        """
        if packet_id in self.received:
            if dup and qos == _QOS_2:
                return False
            raise BrokenRuleError(
                Rule.PUBLISH_IN_USE, f"a new message {packet_id} before PUBREL of the last"
            )
        if packet_id in self._open:
            # Before MQTT 5 a broker may send again whenever it likes.
            if dup and not is_v5 and self._open[packet_id] == qos:
                return False
            raise BrokenRuleError(
                Rule.PUBLISH_IN_USE, f"message {packet_id} again before it was acknowledged"
            )
        limit = self._limit
        if limit is not None and len(self._open) + len(self.received) >= limit:
            found = f"message {packet_id} beyond the {limit} that wait"
            excess = BrokenRuleError(Rule.PUBLISH_TOO_MANY, found)
            if not self._bears_excess:
                raise excess
            self.excess += 1
            self.excess_words = self.excess_words or excess.message
        self._open[packet_id] = qos
        self._order[qos - 1].append(packet_id)
        return True

    def answer(self, packet_id: int, reason: int = 0) -> tuple[int, Answers]:
        """Give a message back: its QoS, and which acknowledgements may leave now, it among them."""
        qos = self._open.get(packet_id, 0)
        if not qos or packet_id in self._answered:
            return qos, []
        order = self._order[qos - 1]
        if order[0] != packet_id:
            self._answered[packet_id] = reason
            return qos, []
        answers = [self._close(order, reason)]
        while order and (waiting := self._answered.pop(order[0], None)) is not None:
            answers.append(self._close(order, waiting))
        return qos, answers

    def answer_in_order(self, packet_ids: list[int]) -> bool:
        """Give back messages of QoS 1, if they are the oldest, in their order; else do nothing."""
        order = self._order[0]
        if self._answered or list(itertools.islice(order, len(packet_ids))) != packet_ids:
            return False
        for packet_id in packet_ids:
            order.popleft()
            del self._open[packet_id]
        return True

    def _close(self, order: deque[int], reason: int) -> tuple[int, int]:
        packet_id = order.popleft()
        if self._open.pop(packet_id) == _QOS_2 and not reason:
            self.received.add(packet_id)
        return packet_id, reason

    def release(self, packet_id: int) -> bool:
        """Note a PUBREL; False for a message that nobody here remembers.

        Raises:
            BrokenRuleError: its PUBREC has not left yet.
        """
        if packet_id in self._open:
            raise BrokenRuleError(Rule.ACK_UNKNOWN, f"PUBREL {packet_id} before its PUBREC")
        if packet_id not in self.received:
            return False
        self.received.discard(packet_id)
        return True
