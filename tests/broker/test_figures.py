"""The broker's part of the catalogue; tests/figures/test_catalogue.py has the text a scraper reads."""

from __future__ import annotations

from typing import Any

from edged.broker.figures import BROKER_FIGURES, add_broker
from edged.outbox.tally import Tally
from edged.transports.bindings.counters import BindingCounters, SessionCounters

LINKS: dict[str, Any] = {
    "state": "connected", "connections": 2, "waiting": 3, "places": 64, "oldest_unacked_s": None,
    "times_back": 23, "unsent": 27, "sessions": {},
    **dict.fromkeys(SessionCounters.__slots__, 4),
    "bindings": {"b": BindingCounters(received=5, duplicates=6).as_dict()},
}  # fmt: skip
OUTBOX = {
    "entries": 7, "bytes": 8, "max_bytes": 9, "oldest_s": 1.5, "waiting": 10,
    **Tally(kept=11, dropped=12, torn=13, failed=14).as_dict(),
}  # fmt: skip


def figures(links: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    add_broker(lambda name, value, *labels: found.update({(name, *labels): value}), links)
    return found


def test_without_another_broker_there_is_no_outbox() -> None:
    found = figures(LINKS)
    assert found["edged_mqtt_messages_ended", "b", "duplicates"] == 6
    assert not [name for name, *_ in found if "outbox" in name]


def test_all_of_it_is_in_the_catalogue_and_filled_in() -> None:
    results = {"state": "connecting", "on_way": 15, "outbox": OUTBOX}
    feeds = {"m": {"published": 16, "dropped": 17}}
    states = {"b/0": {"keys": 18, "bytes": 19, "evicted": 20, "broken": 21, "stale": 22}}
    more = {
        "sessions": {"bulk": {"state": "connected"}},
        "brokers": {"plant to cloud": {**LINKS, "bindings": {}, "results": results}},
        "questions": {"answered": 24, "refused": 25, "dropped": 26},
    }
    found = figures({**LINKS, "results": results, "feeds": feeds, "states": states, **more})
    assert found["edged_mqtt_session_connected", "bulk"] == 1
    assert found["edged_mqtt_questions", "refused"] == 25
    assert found["edged_mqtt_unsent",] == 27
    assert found["edged_broker_connected", "plant to cloud"] == 1
    assert found["edged_broker_outbox_entries", "plant to cloud"] == 7
    assert found["edged_mqtt_states_dropped", "b/0", "stale"] == 22
    assert found["edged_feed_answers", "m", "dropped"] == 17
    assert {name for name, *_ in found} == {figure.name for figure in BROKER_FIGURES}
    assert found["edged_results_connected",] == 0
    assert found["edged_outbox_oldest_seconds",] == 1.5
    assert found["edged_outbox_ended", "dropped"] == 12
    assert found["edged_outbox_damaged", "torn"] == 13
    assert found["edged_outbox_write_failures",] == 14
