"""What Sparkplug nodes said at birth: which metric an alias stands for, and of what type it is.

Decides which births are remembered, what of a message they explain, and when a node is asked for
another birth: aliases mean nothing to who came later, and a node says them only once.
Source: Sparkplug 3.0, 6.4.6 "Metric" and 5.11 "Commands".
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from edged.errors import DecodeError, EdgedError
from edged.protocol.broker_session import Publication
from edged.protocol.sparkplug import (
    DataType,
    Metric,
    encode_sparkplug,
    read_metrics,
    write_metrics,
)

NAMESPACE: Final = "spBv1.0"
REBIRTH: Final = "Node Control/Rebirth"
_BIRTHS: Final = frozenset({"NBIRTH", "DBIRTH"})
_DATA: Final = frozenset({"NDATA", "DDATA"})
MOST_METRICS: Final = 65_536
"""Remembered, of all nodes together: some 20 MB. The node that was silent longest goes."""
_NAME_BYTES: Final = 128
"""Of longer names each counts as several metrics: a birth may have one of a quarter of a MB."""
MOST_BIRTH_BYTES: Final = 256 << 10
"""A birth is read on the event loop; larger ones, with thousands of metrics, are not learned."""
MOST_DATA_BYTES: Final = 32 << 10
"""Likewise of a message with aliases."""
PATIENCE_S: Final = 30.0
"""A node is asked once in so long: a birth is the largest message that it has."""
_MOST_ASKED: Final = 1024
_RATE: Final = 10
"""Nodes asked within a second: a site that comes up is not asked for everything at once."""
_SHOWN = 64


class _Birth(NamedTuple):
    """What one node or device said of its metrics: names and data types."""

    by_alias: dict[int, tuple[str, int]]
    by_name: dict[str, int]

    def weight(self, key: tuple[str, ...]) -> int:
        """In metrics: also of one that has a thousand aliases for one name, or none at all."""
        size = sum(map(len, key)) + sum(map(len, self.by_name))
        return max(1, len(self.by_name), len(self.by_alias), size // _NAME_BYTES)


def birth_filters(source: str) -> tuple[str, ...]:
    """Where the births are heard of what a filter brings.

    Args:
        source: the filter as MQTT has it, without a group.
    """
    levels = source.split("/")
    if len(levels) < 2 or levels[0] not in {NAMESPACE, "+"}:
        return ()
    if levels[-1] == "#":
        levels = [*levels[:-1], *["+"] * (5 - len(levels[:-1]))]
    group, node, device = (*levels, "+", "+", "+", "+")[1], *(*levels, "+", "+", "+")[3:5]
    return f"{NAMESPACE}/{group}/NBIRTH/{node}", f"{NAMESPACE}/{group}/DBIRTH/{node}/{device}"


class Births:
    """See above; used from the event loop only.

    Args:
        ask: publishes a question, or does nothing.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        ask: Callable[[Publication], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.asked = self.unknown = 0
        self._ask, self._clock = ask, clock
        self._known: OrderedDict[tuple[str, ...], _Birth] = OrderedDict()
        self._by_node: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        self._metrics = 0
        self._asked_s: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._allowance, self._counted_s = float(_RATE), clock()

    def stats(self) -> dict[str, int]:
        """For the status page."""
        return {
            "births": len(self._known), "metrics": self._metrics,
            "unknown": self.unknown, "rebirths": self.asked,
        }  # fmt: skip

    def hears(self, topic: str, payload: bytes) -> bool:
        """Learn, where it is a birth; whether it is one."""
        levels = topic.split("/")
        if len(levels) not in (4, 5) or levels[0] != NAMESPACE or levels[2] not in _BIRTHS:
            return False
        self._forget((levels[1], *levels[3:]))
        if levels[2] == "NBIRTH":  # its devices are born again behind it
            for key in tuple(self._by_node.get((levels[1], levels[3]), ())):
                self._forget(key)
        if len(payload) <= MOST_BIRTH_BYTES:
            try:
                self._learn((levels[1], *levels[3:]), read_metrics(payload).get("metrics", ()))
            except EdgedError:
                return True  # what it says by alias stays unknown, and the sender hears of that
        return True

    def named(self, topic: str, payload: bytes) -> bytes:
        """A message with its metrics by name, and each with its data type where that is known.

        Raises:
            DecodeError: it has an alias that no birth explains; the node is asked for one.
        """
        levels = topic.split("/")
        if self.hears(topic, payload) or len(levels) not in (4, 5) or levels[2] not in _DATA:
            return payload
        key = (levels[1], *levels[3:])
        birth = self._known.get(key)
        if len(payload) > MOST_DATA_BYTES:
            return payload
        found = read_metrics(payload)
        is_changed = False
        for metric in found.get("metrics", ()):
            if metric.get("name"):
                kind = birth.by_name.get(metric["name"], 0) if birth is not None else 0
            elif "alias" in metric:
                known = birth.by_alias.get(metric["alias"]) if birth is not None else None
                if known is None:
                    raise self._stranger(key, metric["alias"])
                metric["name"], kind = known
                is_changed = True
            else:
                continue
            if kind and not metric.get("datatype"):
                metric["datatype"] = kind
                is_changed = True
        if birth is not None:
            self._known.move_to_end(key)
        return write_metrics(found) if is_changed else payload

    def _learn(self, key: tuple[str, ...], metrics: Any) -> None:
        birth = _Birth({}, {})
        for metric in metrics:
            name, kind = metric.get("name"), metric.get("datatype", 0)
            if name:
                birth.by_name[name] = kind
                if "alias" in metric:
                    birth.by_alias[metric["alias"]] = name, kind
        self._known[key] = birth
        self._by_node.setdefault(key[:2], set()).add(key)
        self._metrics += birth.weight(key)
        while self._metrics > MOST_METRICS:
            self._forget(next(iter(self._known)))

    def _forget(self, key: tuple[str, ...]) -> None:
        birth = self._known.pop(key, None)
        if birth is None:
            return
        self._metrics -= birth.weight(key)
        of_node = self._by_node[key[:2]]
        of_node.discard(key)
        if not of_node:
            del self._by_node[key[:2]]

    def _stranger(self, key: tuple[str, ...], alias: int) -> DecodeError:
        self.unknown += 1
        is_asked = self._ask is not None and self._may_ask((key[0], key[1]))
        if is_asked and self._ask is not None:
            self.asked += 1
            metric = Metric(REBIRTH, DataType.BOOLEAN, value=True)
            payload = encode_sparkplug([metric], int(time.time() * 1000))
            self._ask(Publication(f"{NAMESPACE}/{key[0]}/NCMD/{key[1]}", payload, qos=0))
        whose = "/".join(key)[:_SHOWN]
        done = "its node is asked for one" if is_asked else "its node was asked for one already"
        return DecodeError(f"no birth of {whose!a} explains the alias {alias}; {done}")

    def _may_ask(self, node: tuple[str, str]) -> bool:
        at_s = self._clock()
        if at_s - self._asked_s.get(node, at_s - PATIENCE_S) < PATIENCE_S:
            return False
        passed_s, self._counted_s = at_s - self._counted_s, at_s
        self._allowance = min(float(_RATE), self._allowance + passed_s * _RATE)
        if self._allowance < 1:
            return False
        self._allowance -= 1
        self._asked_s[node] = at_s
        self._asked_s.move_to_end(node)
        if len(self._asked_s) > _MOST_ASKED:
            self._asked_s.popitem(last=False)
        return True
