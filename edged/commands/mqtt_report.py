"""The broker's side of a daemon in words: ``edged mqtt status``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from edged.commands.rendering import binding_table, counted
from edged.config.brokers import MAIN
from edged.config.problems import did_you_mean, quote
from edged.errors import InvalidRequestError

_SESSION = (
    "unmatched", "retained", "dropped", "rejected", "acknowledged", "published", "unsent",
    "times_back",
)  # fmt: skip


def render_mqtt(mqtt: dict[str, Any] | None) -> str:
    """A few lines and the bindings' table.

    Args:
        mqtt: ``mqtt`` of the status document; None where there is no broker.
    """
    if mqtt is None:
        return "no broker is configured"
    lines = []
    if "state" in mqtt:
        lines = [*_connection(mqtt), *_work(mqtt), *_results(mqtt.get("results"))]
    if mqtt.get("problem"):
        lines.append(f"PROBLEM: {mqtt['problem']}")
    if mqtt.get("bindings"):
        lines += ["", binding_table(mqtt["bindings"])]
    for name, other in (mqtt.get("brokers") or {}).items():
        lines += ["", f"{name}:", textwrap.indent(render_mqtt(other), "  ")]
    return "\n".join(lines).lstrip("\n")


def about_broker(mqtt: dict[str, Any], name: str) -> dict[str, Any]:
    """What comes from one broker, and below it what else goes there or comes from there.

    Args:
        mqtt: ``mqtt`` of the status document.
        name: as configured; ``mqtt`` is that of the section.

    Raises:
        InvalidRequestError: the daemon uses none of that name.
    """
    ways = {MAIN: mqtt, **(mqtt.get("brokers") or {})}
    ends = {way: way.removesuffix(" by disk").split(" to ") for way in ways}
    found = {way: ways[way] for way in ways if name in ends[way]}
    if not found:
        known = sorted({end for both in ends.values() for end in both})
        near, listed = did_you_mean(name, known), ", ".join(known)
        raise InvalidRequestError(
            f"--broker: no broker in use is named {quote(name)}{near}; in use: {listed}"
        )
    own = found.pop(name, {})
    return {**own, "brokers": found}


def is_well(mqtt: dict[str, Any]) -> bool:
    """Whether messages flow on all that is shown."""
    return not mqtt.get("problem") and all(map(is_well, (mqtt.get("brokers") or {}).values()))


def _connection(mqtt: dict[str, Any]) -> Iterator[str]:
    how = f", MQTT {mqtt['protocol']}, {mqtt['session']} session" if mqtt.get("protocol") else ""
    yield f"broker {mqtt.get('broker', '')}: {mqtt['state']}{how}"
    heard = mqtt.get("heard_s")
    more = f", heard {heard:.1f} s ago" if heard is not None else ""
    yield f"connections so far: {mqtt.get('connections', 0)}{more}"
    if mqtt.get("last_error"):
        yield f"last error: {mqtt['last_error']}"
    if mqtt.get("suspicion") and mqtt["suspicion"] != mqtt.get("last_error"):
        yield f"SUSPICION: {mqtt['suspicion']}"


def _work(mqtt: dict[str, Any]) -> Iterator[str]:
    oldest = mqtt.get("oldest_unacked_s")
    more = f", oldest un-acknowledged {oldest:.1f} s" if oldest is not None else ""
    places = f" of {mqtt['places']} places" if "places" in mqtt else ""
    yield f"in flight {mqtt['in_flight']}{places}, waiting {mqtt['waiting']}{more}"
    if mqtt.get("stepped_back"):
        yield "stepped back from the groups of shared filters until there is room"
    yield ", ".join(f"{name.replace('_', ' ')} {mqtt[name]}" for name in _SESSION if name in mqtt)


def _results(results: dict[str, Any] | None) -> Iterator[str]:
    if results is None:
        return
    outbox = results["outbox"]
    fill = 100 * outbox["bytes"] / outbox["max_bytes"] if outbox["max_bytes"] else 0
    oldest = outbox.get("oldest_s")
    age = f", oldest {oldest:.0f} s" if oldest is not None else ""
    where = results.get("broker") or "the same broker"
    yield f"results to {where}: {results['state']}, {results['on_way']} on their way"
    if results.get("suspicion"):
        yield f"SUSPICION: {results['suspicion']}"
    yield (
        f"outbox: {counted(outbox['entries'], 'result')}, {fill:.0f} % full{age}, waiting for room "
        f"{outbox['waiting']}"
    )
