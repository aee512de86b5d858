"""What is measured of the broker's side: messages, results on their way, and the outbox.

A part of ``figures/catalogue.py``; reads the status page's words and counts nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from edged.telemetry.exposition import Figure, Kind, Value

_C, _F, _G = Kind.COUNTER, Kind.FLAG, Kind.GAUGE
_ENDINGS = (
    "answered", "gathered", "dead_lettered", "expired", "abandoned", "duplicates", "suppressed",
)  # fmt: skip
_IGNORED = ("unmatched", "retained", "dropped")
_LEAVINGS = ("delivered", "dropped", "superseded", "expired", "refused")

BROKER_FIGURES: tuple[Figure, ...] = (
    Figure("edged_mqtt_connected", _F, "1 while the broker is connected."),
    Figure("edged_mqtt_connections", _C, "Connections made to the broker."),
    Figure("edged_mqtt_messages_received", _C, "Messages taken for a binding.", ("binding",)),
    Figure("edged_mqtt_messages_ended", _C, "What became of messages.", ("binding", "outcome")),
    Figure("edged_mqtt_messages_in_flight", _G, "Messages at work.", ("binding",)),
    Figure("edged_mqtt_messages_waiting", _G, "Messages that wait for a place (max_inflight)."),
    Figure("edged_mqtt_places", _G, "Messages that the broker may give before an acknowledgement."),
    Figure("edged_mqtt_oldest_unacked_seconds", _G, "Age of the oldest request not acknowledged."),
    Figure("edged_mqtt_stepped_back", _C, "Times that the groups of shared filters were left."),
    Figure("edged_mqtt_session_connected", _F, "1 while it is connected.", ("session",)),
    Figure("edged_broker_connected", _F, "1 while a named broker is connected.", ("broker",)),
    Figure("edged_broker_results_connected", _F, "1 while its results have a way.", ("broker",)),
    Figure("edged_broker_outbox_entries", _G, "Results that wait on disk for it.", ("broker",)),
    Figure("edged_broker_outbox_bytes", _G, "Bytes that they take.", ("broker",)),
    Figure("edged_mqtt_questions", _C, "Questions to the daemon, by what became.", ("outcome",)),
    Figure("edged_mqtt_messages_ignored", _C, "Messages for no binding, by why.", ("reason",)),
    Figure("edged_mqtt_reports_refused", _C, "Error reports the broker refused.", ("binding",)),
    Figure("edged_mqtt_acknowledged", _C, "QoS 1 messages acknowledged to the broker."),
    Figure("edged_mqtt_published", _C, "Messages published: answers, reports and our own state."),
    Figure("edged_mqtt_unsent", _C, "Messages of QoS 0 that were not sent; the log says why."),
    Figure("edged_mqtt_received_bytes", _C, "Bytes of payloads received."),
    Figure("edged_mqtt_published_bytes", _C, "Bytes of payloads published."),
    Figure("edged_results_connected", _F, "1 while the broker of results is connected."),
    Figure("edged_results_on_way", _G, "Results sent that it has not acknowledged."),
    Figure("edged_mqtt_state_keys", _G, "Keys that windows and joins remember.", ("binding",)),
    Figure("edged_mqtt_state_bytes", _G, "Memory that they take.", ("binding",)),
    Figure("edged_mqtt_states_dropped", _C, "What they dropped.", ("binding", "reason")),
    Figure("edged_feed_answers", _C, "Answers of `publish` rules.", ("model", "outcome")),
    Figure("edged_outbox_entries", _G, "Results on disk that wait for their broker."),
    Figure("edged_outbox_bytes", _G, "Bytes that the outbox takes on disk."),
    Figure("edged_outbox_max_bytes", _G, "Bytes that it may take."),
    Figure("edged_outbox_oldest_seconds", _G, "Age of the oldest result that waits."),
    Figure("edged_outbox_waiting", _G, "Results that wait for room in it, un-acknowledged."),
    Figure("edged_outbox_kept", _C, "Results that were put into it."),
    Figure("edged_outbox_ended", _C, "What became of them.", ("outcome",)),
    Figure("edged_outbox_damaged", _C, "Damaged places on disk that were jumped.", ("reason",)),
    Figure("edged_outbox_write_failures", _C, "Times that the disk refused a write."),
)


class Add(Protocol):
    """Takes a figure."""

    def __call__(self, name: str, value: Value | None, /, *labels: str) -> None:
        """Note a value."""
        ...


def add_broker(add: Add, links: Mapping[str, Any]) -> None:
    """Fill in the figures.

    Args:
        add: takes a name, a value and the labels.
        links: what the status page shows of the broker's side.
    """
    add("edged_mqtt_connected", int(links["state"] == "connected"))
    add("edged_mqtt_connections", links["connections"])
    add("edged_mqtt_messages_waiting", links["waiting"])
    add("edged_mqtt_places", links["places"])
    add("edged_mqtt_oldest_unacked_seconds", links["oldest_unacked_s"] or 0.0)
    add("edged_mqtt_stepped_back", links["times_back"])
    for name, side in links["sessions"].items():
        add("edged_mqtt_session_connected", int(side["state"] == "connected"), name)
    _add_bindings(add, links)
    for name, other in (links.get("brokers") or {}).items():
        _add_bindings(add, other)
        add("edged_broker_connected", int(other["state"] == "connected"), name)
        if (way := other.get("results")) is not None:
            add("edged_broker_results_connected", int(way["state"] == "connected"), name)
            add("edged_broker_outbox_entries", way["outbox"]["entries"], name)
            add("edged_broker_outbox_bytes", way["outbox"]["bytes"], name)
    for outcome in ("answered", "refused", "dropped") if links.get("questions") else ():
        add("edged_mqtt_questions", links["questions"][outcome], outcome)
    for name in ("acknowledged", "published", "unsent", "received_bytes", "published_bytes"):
        add(f"edged_mqtt_{name}", links[name])
    for reason in _IGNORED:
        add("edged_mqtt_messages_ignored", links[reason], reason)
    for shelf, found in (links.get("states") or {}).items():
        add("edged_mqtt_state_keys", found["keys"], shelf)
        add("edged_mqtt_state_bytes", found["bytes"], shelf)
        for reason in ("evicted", "broken", "stale"):
            add("edged_mqtt_states_dropped", found[reason], shelf, reason)
    for model, counters in (links.get("feeds") or {}).items():
        for outcome, count in counters.items():
            add("edged_feed_answers", count, model, outcome)
    results = links.get("results")
    if results is not None:
        add("edged_results_connected", int(results["state"] == "connected"))
        add("edged_results_on_way", results["on_way"])
        _add_outbox(add, results["outbox"])


def _add_bindings(add: Add, links: Mapping[str, Any]) -> None:
    for binding, counters in links["bindings"].items():
        add("edged_mqtt_messages_received", counters["received"], binding)
        add("edged_mqtt_messages_in_flight", counters["in_flight"], binding)
        add("edged_mqtt_reports_refused", counters["undeliverable"], binding)
        for ending in _ENDINGS:
            add("edged_mqtt_messages_ended", counters[ending], binding, ending)


def _add_outbox(add: Add, outbox: Mapping[str, Any]) -> None:
    for name in ("entries", "bytes", "max_bytes", "waiting", "kept"):
        add(f"edged_outbox_{name}", outbox[name])
    add("edged_outbox_oldest_seconds", outbox["oldest_s"])
    add("edged_outbox_write_failures", outbox["failed"])
    for outcome in _LEAVINGS:
        add("edged_outbox_ended", outbox[outcome], outcome)
    for kind in ("corrupt", "torn"):
        add("edged_outbox_damaged", outbox[kind], kind)
