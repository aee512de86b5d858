"""Whether the host application that a Sparkplug node speaks for is there, as its STATE says.

Decides which STATE is believed: one that is older than another of this connection is not, so that
the last will of a host's lost connection does not undo the birth of its next. What follows from it
is ``sparkplug_node.py``'s.
Source: Sparkplug 3.0, 4.4 "STATE" and 5.4 "Edge Node Session Establishment".
"""

from __future__ import annotations

import logging

import msgspec

from edged import decoding
from edged.protocol.sparkplug_births import NAMESPACE

log = logging.getLogger("edged.mqtt")

_CAP_BYTES = 1 << 10


class _State(msgspec.Struct):
    online: bool
    timestamp: int


class PrimaryHost:
    """See above.

    Args:
        name: as configured; the last level of the topic.
    """

    def __init__(self, name: str) -> None:
        self.topic = f"{NAMESPACE}/STATE/{name}"
        self.is_online = False
        self.refusal = ""
        self._name = name
        self._newest_ms: int | None = None
        self._has_said = False

    @property
    def problem(self) -> str | None:
        """Why its node is silent, for people, or None while it need not be."""
        if self.refusal:
            return f'the broker refuses the subscription to "{self.topic}": {self.refusal}'
        return None if self.is_online else f'the primary host "{self._name}" is not online'

    def forget(self) -> None:
        """The connection is gone; the broker says on the next what it has kept."""
        self.is_online = self._has_said = False
        self._newest_ms, self.refusal = None, ""

    def hears(self, payload: bytes) -> bool:
        """Take a STATE; whether it says something else than what was known."""
        try:
            if len(payload) > _CAP_BYTES:
                raise msgspec.DecodeError(f"has more than {_CAP_BYTES} bytes")
            found = decoding.decode(payload, _State)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            if not self._has_said:  # once a connection: whoever sends one may send thousands
                self._has_said = True
                expected = 'expected {"online": true, "timestamp": MILLISECONDS}'
                log.warning("%s is no STATE of Sparkplug 3.0: %s; %s", self.topic, exc, expected)
            return False
        if self._newest_ms is not None and found.timestamp < self._newest_ms:
            return False
        self._newest_ms = found.timestamp
        is_news = found.online != self.is_online
        self.is_online = found.online
        return is_news
