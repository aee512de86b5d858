"""Answers that no message asked for: what is published, what is left out, and that it is counted."""

from __future__ import annotations

from typing import Any

import numpy as np

from edged.config.feed import FeedConfig
from edged.errors import RunError
from edged.manifest import Manifest
from edged.messages import InferRequest, InferResponse
from edged.protocol.broker_session import Publication
from edged.specs import OutputSpec, Size
from edged.transports.bindings import feeds
from edged.transports.bindings.feeds import Feed, FeedCounters, Feeds
from tests.fakes.door import SUM

RULE = FeedConfig(to="out/{model}")


class FakeForwarder:
    """Notes what it is given; reports when told."""

    def __init__(self) -> None:
        self.given: list[tuple[Publication, str, bool]] = []
        self.waiting: list[Any] = []

    def put(
        self, publication: Publication, when_full: str, on_kept: Any, *, is_durable: bool
    ) -> None:
        self.given.append((publication, when_full, is_durable))
        self.waiting.append(on_kept)

    def report(self, reason: str = "") -> None:
        while self.waiting:
            self.waiting.pop(0)(reason)


def of(model: str, release: int | str | None = None) -> Manifest | None:
    return SUM if model == "sum" and release == 1 else None


def make(rule: FeedConfig = RULE) -> tuple[Feed, Any]:
    feed, forwarder = Feed("sum", rule, of, FeedCounters()), FakeForwarder()
    feed.follow(forwarder)  # type: ignore[arg-type]
    return feed, forwarder


def answer(size: int = 1, **words: Any) -> InferResponse:
    return InferResponse(
        "sum",
        **{"release": 1, "generation": 7, "outputs": {"sum": np.ones(size, np.float32)}} | words,
    )


ASKED = InferRequest("sum", {}, origin="uds")


def test_an_answer_is_published() -> None:
    feed, forwarder = make(FeedConfig(to="out/{model}", retain=True, when_full="latest_only"))
    feed.note(ASKED, answer())
    ((publication, when_full, is_durable),) = forwarder.given
    assert publication.topic == "out/sum"
    assert publication.payload == b'{"model":"sum","release":1,"generation":7,"sum":1.0}'
    assert publication.properties[0] == ("edged-model", "sum")
    assert (publication.retain, when_full, is_durable) == (True, "latest_only", True)
    assert feed.counters.published == 0
    forwarder.report()
    assert feed.counters.published == 1


def test_durability_is_the_operators_word() -> None:
    for rule in (FeedConfig(to="t", durability="async"), FeedConfig(to="t", qos=0)):
        feed, forwarder = make(rule)
        feed.note(ASKED, answer())
        assert forwarder.given[0][2] is False


def test_what_is_not_published() -> None:
    feed, forwarder = make(FeedConfig(to="t", max_size=Size(8)))
    feed.note(ASKED, answer(error=RunError("no"), outputs={}))
    feed.note(ASKED, answer(outputs={}))
    feed.note(InferRequest("sum", {}, origin="mqtt:b"), answer())
    feed.note(ASKED, answer(size=3))
    feed.note(
        InferRequest("sum", {}, origin="uds", outputs=("other",)),
        answer(outputs={"other": np.ones(1)}),
    )
    assert not forwarder.given
    counters = feed.counters
    assert (counters.too_large, counters.partial, counters.failed) == (1, 1, 0)


def test_a_rule_that_does_not_fit_is_said_once_and_counted(caplog: Any) -> None:
    feed, forwarder = make(FeedConfig(to="t", output=OutputSpec(tensor="none")))
    for _ in range(3):
        feed.note(ASKED, answer())
    feed.note(ASKED, answer(release=2))
    assert feed.counters.failed == 4
    assert caplog.text.count("models.sum.publish") == 1
    assert not forwarder.given


def test_a_disk_that_is_slow_bounds_the_memory(monkeypatch: Any) -> None:
    monkeypatch.setattr(feeds, "_MOST_WAITING", 10)
    feed, forwarder = make()
    for _ in range(15):
        feed.note(ASKED, answer())
    assert (len(forwarder.given), feed.counters.dropped) == (10, 5)
    forwarder.report("no room")
    assert feed.counters.dropped == 15
    feed.note(ASKED, answer())
    assert len(forwarder.given) == 11
    monkeypatch.setattr(feeds, "_MOST_BYTES", 100)
    feed.note(ASKED, answer())
    assert len(forwarder.given) == 11


def test_held_while_the_outbox_is_closed() -> None:
    feed, forwarder = make()
    feed.follow(None)
    feed.note(ASKED, answer())
    feed.note(ASKED, answer())
    assert not forwarder.given
    feed.follow(forwarder)
    forwarder.report()
    assert feed.counters.published == 2


def test_rules_come_and_go_and_counters_go_on() -> None:
    found, forwarder = Feeds(), FakeForwarder()
    first = found.swap({"sum": RULE}, of, forwarder)["sum"]  # type: ignore[arg-type]
    first.note(ASKED, answer())
    forwarder.report()
    assert found.swap({"sum": RULE}, of, forwarder)["sum"] is first  # type: ignore[arg-type]
    other = found.swap({"sum": FeedConfig(to="x")}, of, forwarder)["sum"]  # type: ignore[arg-type]
    assert other is not first
    assert found.stats()["sum"]["published"] == 1
    found.hold()
    other.note(ASKED, answer())
    assert len(forwarder.given) == 1
    assert found.swap({}, of, None) == {}
    assert found.stats() == {}
