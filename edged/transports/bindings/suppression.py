"""Which answers of a binding are left out because they say nothing new.

Decides by the last answer of the same key that left, which it remembers for a bounded number of
keys. Pure but for that memory; an answer that could not be published is taken back, so that the
next one is not measured by what nobody saw. Never asked about replies: who asks is answered.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from edged.config.publish import PublishConfig
from edged.processing.columns import follow
from edged.processing.words import ABSENT

MOST_NUMBERS = 1024
"""Of an answer with a dead band; one with more is always published, for they are all remembered."""
_RANKED = ("label", "score")


class _Sent(NamedTuple):
    """What left for a key, and when (monotonic clock, nanoseconds)."""

    value: Any
    at_ns: int


class Suppression:
    """The policy of one binding with its memory.

    Args:
        config: as written.
    """

    def __init__(self, config: PublishConfig) -> None:
        self.config = config
        self._steps = tuple(config.field.split(".")) if config.field is not None else ()
        self._sent: OrderedDict[str, _Sent] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sent)

    def lets_pass(self, key: str, rows: Sequence[dict[str, Any]], now_ns: int) -> bool:
        """Whether to publish an answer; if so it is what the next ones are measured by.

        Args:
            key: what the answer is about.
            rows: as people read them.
            now_ns: monotonic clock, nanoseconds.
        """
        config = self.config
        before = self._sent.get(key)
        value = self._value(rows)
        is_due = before is None or (
            config.silence is not None and now_ns - before.at_ns >= config.silence
        )
        if config.when == "above":
            passes = _reaches(value, config.threshold or 0.0) or (
                config.silence is not None and is_due
            )
        else:
            passes = is_due or (before is not None and self._is_news(before, value, now_ns))
        if passes:
            self._remember(key, _Sent(value, now_ns))
        elif before is not None:
            self._sent.move_to_end(key)
        return passes

    def forget(self, key: str) -> None:
        """An answer that was let pass did not arrive: the next one of its key passes."""
        self._sent.pop(key, None)

    def _value(self, rows: Sequence[dict[str, Any]]) -> Any:
        value: Any = [self._shown(row) for row in rows]
        if self.config.when == "on_change":
            return hashlib.blake2b(msgspec.msgpack.encode(value), digest_size=16).digest()
        if self.config.when == "every":
            return None
        return value

    def _shown(self, row: dict[str, Any]) -> Any:
        if self._steps:
            found = follow(row, self._steps)
            return None if found is ABSENT else found
        if "label" in row and "top" in row:
            if self.config.when == "on_change":
                return row["label"]
            return [row[name] for name in _RANKED]
        return row

    def _is_news(self, before: _Sent, value: Any, now_ns: int) -> bool:
        if self.config.when == "every":
            return now_ns - before.at_ns >= (self.config.every or 0)
        if self.config.when == "dead_band":
            return _moved(before.value, value, self.config.band)
        return bool(before.value != value)

    def _remember(self, key: str, sent: _Sent) -> None:
        if self.config.when == "dead_band" and _count(sent.value) > MOST_NUMBERS:
            self._sent.pop(key, None)
            return
        self._sent[key] = sent._replace(value=None) if self.config.when == "above" else sent
        self._sent.move_to_end(key)
        if len(self._sent) > self.config.max_keys:
            self._sent.popitem(last=False)


class Watch:
    """One answer under a policy.

    Args:
        suppression: the policy; None = every answer leaves.
        about: the answer's key.
    """

    __slots__ = ("_about", "_is_measure", "_suppression", "rows")

    def __init__(self, suppression: Suppression | None, about: str) -> None:
        self._suppression, self._about = suppression, about
        self._is_measure = False
        self.rows: Sequence[dict[str, Any]] | None = None
        """None where the answer was made before its connection broke: such a one leaves."""

    def leaves_out(self) -> bool:
        """Whether it is kept back; else the next ones are measured by it."""
        if self._suppression is None or self.rows is None:
            return False
        at_ns = time.monotonic_ns()
        self._is_measure = self._suppression.lets_pass(self._about, self.rows, at_ns)
        return not self._is_measure

    def take_back(self) -> None:
        """It did not arrive, and is nothing to measure the next one by."""
        if self._is_measure and self._suppression is not None:
            self._is_measure = False
            self._suppression.forget(self._about)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _moved(old: Any, new: Any, band: float) -> bool:
    """Whether a number moved by more than the band, or anything else is another."""
    if _is_number(old) and _is_number(new):
        return bool(abs(new - old) > band)
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() != new.keys() or any(_moved(old[k], new[k], band) for k in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) != len(new) or any(map(_moved, old, new, [band] * len(old)))
    return bool(old != new)


def _reaches(value: Any, threshold: float) -> bool:
    if _is_number(value):
        return bool(value >= threshold)
    if isinstance(value, dict):
        return any(_reaches(item, threshold) for item in value.values())
    if isinstance(value, list):
        return any(_reaches(item, threshold) for item in value)
    return False


def _count(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_count, value.values()))
    if isinstance(value, list):
        return sum(map(_count, value))
    return 1
