"""What a daemon says of itself on its own topics, retained: what it is, its models, their states.

Decides what is said again: what changed, and everything on a new connection, for a broker may have
lost it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edged.protocol.broker_session import Publication, Published
from edged.protocol.mqtt import JSON, OFFLINE, BaseTopics, encode_document

log = logging.getLogger("edged.mqtt")

_BEGINS = frozenset({"new", "loading", "warming"})


class Announcer:
    """The retained topics of one session but its status.

    Args:
        topics: where they lie.
        publish: sends, if a connection is up.
    """

    def __init__(self, topics: BaseTopics, publish: Callable[[Publication], None]) -> None:
        self._topics = topics
        self._publish = publish
        self._said: dict[str, Publication] = {}

    def announce(self, info: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> None:
        """Say what changed; the state of a model that is gone is taken back."""
        found = [
            Publication(self._topics.info, encode_document(info), retain=True, content_type=JSON),
            Publication(
                self._topics.models, encode_document(models), retain=True, content_type=JSON
            ),
            *(
                Publication(self._topics.model_state(model["name"]), model_state(model), 1, True)
                for model in models
            ),
        ]
        gone = self._said.keys() - {publication.topic for publication in found}
        for publication in (*found, *(Publication(topic, b"", 1, True) for topic in gone)):
            if self._said.get(publication.topic) != publication:
                self._said[publication.topic] = publication
                self._publish(publication)
        for topic in gone:
            del self._said[topic]

    def again(self) -> None:
        """Say everything on a new connection."""
        for publication in self._said.values():
            self._publish(publication)


async def say_goodbye(
    topics: BaseTopics,
    publish: Callable[[Publication, Callable[[Published], None]], None],
    timeout_s: float,
) -> None:
    """Say that we are gone, and wait until the broker has it."""
    said = asyncio.Event()
    publish(Publication(topics.status, OFFLINE, retain=True), lambda _: said.set())
    try:
        await asyncio.wait_for(said.wait(), timeout_s)
    except asyncio.TimeoutError:
        log.warning("the broker did not take our last word")


def model_state(model: Mapping[str, Any]) -> bytes:
    """``ready``, ``loading`` or ``failed``: plain words for who only asks whether it works."""
    if model.get("ready"):
        return b"ready"
    states = {release.get("state") for release in model.get("releases", ())}
    return b"loading" if states & _BEGINS else b"failed"
