"""Answers that are published though no message asked for them: a model's ``publish`` rule.

Whoever asked has its answer first, and waits for nothing here: what is published is put into the
outbox, and what that has no room for is counted and left out.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edged.config.feed import FeedConfig
from edged.errors import FieldError
from edged.manifest import Manifest, ManifestOf
from edged.messages import InferRequest, InferResponse
from edged.protocol.broker_session import Publication
from edged.protocol.mqtt import answer_properties
from edged.topics import TopicTemplate
from edged.transports.bindings.answers import AnswerWriter
from edged.transports.bindings.forwarding import Forwarder

log = logging.getLogger("edged.mqtt")

_MOST_WAITING = 4096
_MOST_BYTES = 16 << 20
"""Of answers that the disk has not taken yet: it may be slower than those who ask."""


@dataclass(slots=True)
class FeedCounters:
    """What became of a model's answers; plain integers, written on the loop only.

    Args:
        published: put into the outbox.
        too_large: over ``max_size``.
        partial: their asker wanted other outputs.
        dropped: the disk was too slow, or takes nothing.
        failed: could not be made into a message; the log says why.
    """

    published: int = 0
    too_large: int = 0
    partial: int = 0
    dropped: int = 0
    failed: int = 0

    def as_dict(self) -> dict[str, int]:
        """For the status page."""
        return {name: getattr(self, name) for name in self.__slots__}


class Feed:
    """One model's.

    Args:
        model: its name.
        config: its rule.
        of: the manifests of what answers.
        counters: go on over changes of the rule.
    """

    def __init__(
        self, model: str, config: FeedConfig, of: ManifestOf, counters: FeedCounters
    ) -> None:
        self.config = config
        self.counters = counters
        self._forwarder: Forwarder | None = None
        self._held: deque[Publication] = deque()
        """Made while the outbox is closed: another connection is about to have it."""
        self._model, self._of = model, of
        self._topic = TopicTemplate.parse(config.to).render({"model": model})
        self._fitted: tuple[Manifest, AnswerWriter] | None = None
        self._waiting = self._waiting_bytes = 0
        self._has_failed = False

    def follow(self, forwarder: Forwarder | None) -> None:
        """Put answers there from now on; None to hold them."""
        self._forwarder = forwarder
        while self._forwarder is not None and self._held:
            self._put(self._forwarder, self._held.popleft())

    def note(self, request: InferRequest, response: InferResponse) -> None:
        """Publish an answer, if it can be."""
        counters = self.counters
        if response.error is not None or not response.outputs:
            return
        if request.origin.startswith("mqtt:"):
            return  # published by its binding
        if sum(array.nbytes for array in response.outputs.values()) > self.config.max_size:
            counters.too_large += 1
        elif self._is_crowded:
            counters.dropped += 1
        else:
            try:
                publication = self._publication(response)
            except Exception as exc:
                self._failed(request, exc)
                return
            self._waiting += 1
            self._waiting_bytes += publication.size_bytes
            if self._forwarder is not None:
                self._put(self._forwarder, publication)
            else:
                self._held.append(publication)

    @property
    def _is_crowded(self) -> bool:
        return self._waiting >= _MOST_WAITING or self._waiting_bytes >= _MOST_BYTES

    def _publication(self, response: InferResponse) -> Publication:
        config = self.config
        answer = self._writer(response.release).write(response)
        return Publication(
            self._topic,
            answer.payload,
            qos=config.qos,
            retain=config.retain,
            content_type=answer.content_type,
            properties=answer_properties(response, is_dup=False),
        )

    def _writer(self, release: int) -> AnswerWriter:
        manifest = self._of(self._model, release)
        if manifest is None:
            raise FieldError("publish", f"release {release} is gone")
        if manifest.makes_texts:
            raise FieldError("publish", "texts are not published")
        if self._fitted is None or self._fitted[0] is not manifest:
            writer = AnswerWriter(self.config.output, manifest, wants_rows=False)
            self._fitted = manifest, writer
        return self._fitted[1]

    def _put(self, forwarder: Forwarder, publication: Publication) -> None:
        def kept(reason: str) -> None:
            self._waiting -= 1
            self._waiting_bytes -= publication.size_bytes
            if reason:
                self.counters.dropped += 1
            else:
                self.counters.published += 1

        config = self.config
        is_durable = config.durability == "fsync" and config.qos > 0
        forwarder.put(publication, config.when_full, kept, is_durable=is_durable)

    def _failed(self, request: InferRequest, error: Exception) -> None:
        if request.outputs and isinstance(error, KeyError):
            self.counters.partial += 1
            return
        self.counters.failed += 1
        if not self._has_failed:
            self._has_failed = True
            log.warning(
                'answers of model "%s" cannot be published as models.%s.publish says: %s',
                self._model, self._model, error,
            )  # fmt: skip


class Feeds:
    """All models' that have a rule; swapped as a whole, the counters go on."""

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}

    def swap(
        self, rules: Mapping[str, FeedConfig], of: ManifestOf, forwarder: Forwarder | None
    ) -> dict[str, Feed]:
        """Follow these rules from now on."""
        before, self._feeds = self._feeds, {}
        for name, rule in rules.items():
            known = before.get(name)
            if known is None or known.config != rule:
                known = Feed(name, rule, of, known.counters if known else FeedCounters())
            known.follow(forwarder)
            self._feeds[name] = known
        return dict(self._feeds)

    def hold(self) -> None:
        """The outbox is about to be closed."""
        for feed in self._feeds.values():
            feed.follow(None)

    def stats(self) -> dict[str, Any]:
        """By model, for the status page."""
        return {name: feed.counters.as_dict() for name, feed in self._feeds.items()}
