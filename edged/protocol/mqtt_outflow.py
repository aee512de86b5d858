"""What we sent on one connection and wait for: packet identifiers, and the broker's window.

Sans I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from edged.protocol import mqtt_wire as wire
from edged.protocol.broker_session import Publication
from edged.protocol.mqtt_rules import BrokenRuleError, Rule

_LAST_ID: Final = 0xFFFF
_SHORTEST_ALIASED: Final = 12
"""A number takes five bytes more, once; a topic that is shorter is not worth one of the few."""


@dataclass(slots=True)
class Asked:
    """A subscription of ours, which may take several packets, and what was refused of it."""

    token: int
    open_packets: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)


class Outflow:
    """Publications and subscriptions that the broker has not acknowledged.

    Args:
        window: publications of QoS 1 and 2 that may be on their way; the others wait, in order.

    Before MQTT 5 a broker does not say how many it takes, and beside QoS 2 mosquitto 2.0 loses what
    is over its own limit of 20, having acknowledged it: from the first QoS 2 on the window is one.

    Topics get numbers (aliases) in the order in which they are first sent, until the broker takes
    no more of them; none is given to another topic later.
    """

    __slots__ = (
        "_aliases", "_last", "_open", "_stages", "_subscribing", "_unsubscribing",
        "most_aliases", "waiting", "waiting_bytes", "window",
    )  # fmt: skip

    def __init__(self, window: int) -> None:
        self.window = window
        self.most_aliases = 0
        self._aliases: dict[str, int] = {}
        self._last = 0
        self._open: dict[int, int] = {}
        self._stages: dict[int, int] = {}
        """Of those of QoS 2, the packet that is waited for: PUBREC, then PUBCOMP."""
        self.waiting: deque[tuple[int, Publication]] = deque()
        """Publications for which the window has no room yet."""
        self.waiting_bytes = 0
        self._subscribing: dict[int, tuple[Asked, tuple[str, ...]]] = {}
        self._unsubscribing: dict[int, tuple[int, int]] = {}

    @property
    def unacknowledged(self) -> int:
        """Publications on their way."""
        return len(self._open)

    @property
    def oldest(self) -> tuple[int, ...]:
        """What has waited longest for the broker's word, of each kind; the same while it does."""
        kinds = (self._open, self._subscribing, self._unsubscribing)
        return tuple(next(iter(kind)) for kind in kinds if kind)

    def must_wait(self, publication: Publication) -> bool:
        """Whether it has to stand behind others; QoS 0 too, so that order is kept."""
        return bool(self.waiting) or (publication.qos > 0 and len(self._open) >= self.window)

    def queue(self, token: int, publication: Publication) -> None:
        """Put it behind the others."""
        self.waiting.append((token, publication))
        self.waiting_bytes += publication.size_bytes

    def due(self) -> Iterator[tuple[int, Publication]]:
        """Those that have room now, in order."""
        waiting = self.waiting
        while waiting and (waiting[0][1].qos == 0 or len(self._open) < self.window):
            self.waiting_bytes -= waiting[0][1].size_bytes
            yield waiting.popleft()

    def new_id(self) -> int:
        """A packet identifier that is free; 0 where none is."""
        for _ in range(_LAST_ID):
            self._last = self._last % _LAST_ID + 1
            number = self._last
            if not (
                number in self._open or number in self._subscribing or number in self._unsubscribing
            ):
                return number
        return 0

    def begin(self, tokens: range, qos: int) -> list[bytes] | None:
        """Packet identifiers, as they are written, for publications that leave now, in this order.

        None, with nothing done, where one of them has to wait, or an identifier is not free. Those
        of QoS 0 have none.
        """
        if self.waiting or (qos and len(self._open) + len(tokens) > self.window):
            return None
        if not qos:
            return [b""] * len(tokens)
        found = range(self._last + 1, self._last + 1 + len(tokens))
        is_free = found[-1] <= _LAST_ID and not self._subscribing and not self._unsubscribing
        if not is_free or not self._open.keys().isdisjoint(found):
            return None
        self._last = found[-1]
        self._open.update(zip(found, tokens, strict=True))
        return [number.to_bytes(2, "big") for number in found]

    def alias(self, topic: str) -> tuple[int, bool]:
        """The number of a topic, 0 for none, and whether the broker knows it already."""
        known = self._aliases.get(topic, 0)
        if known:
            return known, True
        if len(self._aliases) >= self.most_aliases or len(topic) < _SHORTEST_ALIASED:
            return 0, False
        return len(self._aliases) + 1, False

    def aliased(self, topic: str, alias: int) -> None:
        """The number was sent with its topic."""
        self._aliases[topic] = alias

    def sent(self, packet_id: int, token: int, qos: int = 1) -> None:
        """A publication of QoS 1 or 2 is on its way."""
        self._open[packet_id] = token
        if qos > 1:
            self._stages[packet_id] = wire.PUBREC

    def acknowledged(self, packet_id: int) -> int:
        """The token of the publication that a PUBACK names; raises BrokenRuleError."""
        token = None if packet_id in self._stages else self._open.pop(packet_id, None)
        if token is None:
            raise BrokenRuleError(Rule.ACK_UNKNOWN, f"PUBACK {packet_id} that nothing waits for")
        return token

    def answered(self, kind: int, packet_id: int, *, is_failure: bool) -> int | None:
        """The token of what is done by PUBACK, PUBREC or PUBCOMP; None where PUBREL is to follow.

        Raises:
            BrokenRuleError: it is not what is waited for.
        """
        if kind == wire.PUBACK:
            return self.acknowledged(packet_id)
        if self._stages.get(packet_id) != kind:
            name = wire.NAMES[kind]
            raise BrokenRuleError(Rule.ACK_UNKNOWN, f"{name} {packet_id} that nothing waits for")
        if kind == wire.PUBREC and not is_failure:
            self._stages[packet_id] = wire.PUBCOMP
            return None
        del self._stages[packet_id]
        return self._open.pop(packet_id)

    def subscribing(self, packet_id: int, asked: Asked, filters: tuple[str, ...]) -> None:
        """A SUBSCRIBE is on its way."""
        asked.open_packets += 1
        self._subscribing[packet_id] = (asked, filters)

    def subscribed(self, packet_id: int, count: int) -> tuple[Asked, tuple[str, ...]]:
        """What a SUBACK with so many reason codes answers; raises BrokenRuleError."""
        found = self._subscribing.pop(packet_id, None)
        if found is None:
            raise BrokenRuleError(Rule.SUBACK_UNKNOWN, f"SUBACK {packet_id} that nothing waits for")
        if count != len(found[1]):
            raise BrokenRuleError(
                Rule.SUBACK_COUNT, f"SUBACK with {count} reason codes for {len(found[1])} filters"
            )
        found[0].open_packets -= 1
        return found

    def unsubscribing(self, packet_id: int, token: int, count: int) -> None:
        """An UNSUBSCRIBE of so many filters is on its way."""
        self._unsubscribing[packet_id] = (token, count)

    def unsubscribed(self, packet_id: int, count: int | None) -> int:
        """The token of what an UNSUBACK answers; raises BrokenRuleError.

        Args:
            packet_id: as it says.
            count: of its reason codes; None before MQTT 5, where there are none.
        """
        found = self._unsubscribing.pop(packet_id, None)
        if found is None:
            raise BrokenRuleError(
                Rule.SUBACK_UNKNOWN, f"UNSUBACK {packet_id} that nothing waits for"
            )
        token, filters = found
        if count is not None and count != filters:
            raise BrokenRuleError(
                Rule.UNSUBACK_COUNT, f"UNSUBACK with {count} reason codes for {filters} filters"
            )
        return token
