"""Home Assistant is told of the devices that answers are about: MQTT discovery.

Decides when: a device's message goes out with its first answer and whenever it would say something
else, and all of them again, after a random delay and a few at a time, when Home Assistant or the
broker comes up. Nothing waits for it, and no acknowledgement depends on it.
Source: home-assistant.io, "MQTT", "Device discovery payload" and "Birth and last will messages".
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import re
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from edged.protocol.broker_session import Publication
from edged.protocol.mqtt import JSON, OFFLINE, ONLINE, BaseTopics, encode_document
from edged.version import __version__

log = logging.getLogger("edged.mqtt")

MOST_DEVICES = 4096
"""Remembered, to know what is new; beyond them the longest unused is told anew when it comes."""
_AT_A_TIME, _PAUSE_S = 20, 0.1
"""Home Assistant was disconnected by brokers over floods of these (home-assistant/core 71088)."""
_LEAST_DELAY_S = 1.0
_OTHER = re.compile(r"[^A-Za-z0-9_-]")
_SHOWN = 64


def object_id(text: str) -> str:
    """A device's name as a topic level of Home Assistant; different names stay different."""
    plain = _OTHER.sub("_", text)[:_SHOWN]
    if plain == text:
        return plain
    return f"{plain}_{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def birth_topic(prefix: str) -> str:
    """Where Home Assistant says that it came up."""
    return f"{prefix}/status"


def device_topic(prefix: str, binding: str, device: str) -> str:
    """Where Home Assistant is told of a device by a binding."""
    return f"{prefix}/device/edged_{binding}_{object_id(device)}/config"


def device_message(  # noqa: PLR0917 - each is one word of the message
    binding: str,
    model: str,
    device: str,
    state_topic: str,
    entities: dict[str, dict[str, Any]],
    topics: BaseTopics,
) -> bytes:
    """What Home Assistant is told of one device by one binding.

    Args:
        binding: its name.
        model: which answers.
        device: its name.
        state_topic: where its answers go.
        entities: from ``entities_of``.
        topics: our own, for whether we are there.
    """
    key = object_id(device)
    return encode_document(
        {
            "device": {"identifiers": [f"edged_{key}"], "name": device[:_SHOWN], "model": model},
            "origin": {"name": "edged", "sw_version": __version__},
            "availability_topic": topics.status,
            "payload_available": ONLINE.decode(),
            "payload_not_available": OFFLINE.decode(),
            "state_topic": state_topic,
            "components": {
                object_id(name): one | {"unique_id": f"edged_{binding}_{key}_{object_id(name)}"}
                for name, one in entities.items()
            },
        }
    )


class Discovery:
    """See above; used from the event loop only.

    Args:
        send: publishes on the connection that is up, or does nothing.
        later: calls after so many seconds; the loop's ``call_later``.
        jitter: a random number of the given range.
    """

    def __init__(
        self,
        send: Callable[[Publication], None],
        later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._send, self._later, self._jitter = send, later, jitter
        self._told: OrderedDict[str, tuple[object, bytes]] = OrderedDict()
        self._queue: deque[str] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._delays: dict[str, float] = {}

    def want(self, delays: dict[str, float]) -> None:
        """Which prefixes are in use, with the longest delay of each, seconds."""
        self._delays = delays

    def tell(self, topic: str, source: object, make: Callable[[], bytes]) -> None:
        """A device as it is now; said only where that is new.

        Args:
            topic: where it is told of.
            source: all that its message is made of; an equal one makes the same message.
            make: writes the message.
        """
        known = self._told.get(topic)
        if known is not None and known[0] == source:
            self._told.move_to_end(topic)
            return
        payload = make()
        self._told[topic] = source, payload
        self._told.move_to_end(topic)
        if len(self._told) > MOST_DEVICES:
            self._told.popitem(last=False)
        if known is None or known[1] != payload:
            self._publish(topic, payload)

    def hears(self, topic: str, payload: bytes) -> bool:
        """Whether a message is Home Assistant's word of itself; its birth has all told again."""
        delay_s = next((d for p, d in self._delays.items() if birth_topic(p) == topic), None)
        if delay_s is None:
            return False
        if payload == b"online":
            self._again(delay_s)
        return True

    def connected(self) -> None:
        """A connection came up; its broker may have lost what it had retained."""
        self.forget()
        if self._told and self._delays:
            self._again(max(self._delays.values()))

    def forget(self) -> None:
        """The connection is gone, and with it what was about to be told."""
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self, delay_s: float) -> None:
        if self._timer is None:
            least_s = min(_LEAST_DELAY_S, delay_s)
            self._timer = self._later(self._jitter(least_s, delay_s), self._begin)

    def _begin(self) -> None:
        self._queue.extend(self._told)
        self._step()

    def _step(self) -> None:
        self._timer = None
        for _ in range(min(_AT_A_TIME, len(self._queue))):
            topic = self._queue.popleft()
            told = self._told.get(topic)
            if told is not None:
                self._publish(topic, told[1])
        if self._queue:
            self._timer = self._later(_PAUSE_S, self._step)

    def _publish(self, topic: str, payload: bytes) -> None:
        self._send(Publication(topic, payload, retain=True, content_type=JSON))
