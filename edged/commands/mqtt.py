"""The commands about brokers and bindings: ``edged mqtt status | record``, ``edged bindings test``.

Decides their words and what they print; each imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged.commands.words import add_config, add_json, add_socket, add_verb, add_verbs
from edged.errors import STATUS, Code, InvalidRequestError

if TYPE_CHECKING:
    from edged.commands.replay import Outcome

_MOST_MESSAGES = 1_000_000
_MOST_BYTES = 1 << 30


def add_mqtt(commands: Any) -> None:
    """Add the commands; ``commands`` is what ``add_subparsers`` gave."""
    text = "Show what the broker's session does; record what comes."
    verbs = add_verbs(commands, "mqtt", text)
    status = add_verb(verbs, "status", _status, "Show session, outbox, and each binding's counts.")
    add_json(status)
    status.add_argument("--broker", metavar="NAME", help="only what comes from it or goes to it")
    add_socket(status)
    record = add_verb(verbs, "record", _record, "Write what the broker brings into a file.")
    add_config(record)
    record.add_argument("file", type=Path, help="must not exist; JSON lines")
    record.add_argument(
        "--topic", action="append", default=[], metavar="FILTER",
        help="what to record; may be repeated (default: what the bindings read)",
    )  # fmt: skip
    record.add_argument(
        "--broker", default="mqtt", metavar="NAME",
        help="one of `brokers:` (default: that of `mqtt:`)",
    )  # fmt: skip
    record.add_argument("--count", type=int, default=1000, help="stop after so many messages")
    record.add_argument("--seconds", type=float, default=60.0, help="stop after so long")
    record.add_argument(
        "--max-bytes", type=int, default=64 << 20, help="stop before the file grows over it"
    )
    text = "Try bindings before they serve."
    verbs = add_verbs(commands, "bindings", text)
    test = add_verb(
        verbs, "test", _test,
        "Give a recorded capture to the bindings of a configuration and print what they would "
        "publish. No broker is needed; the models are those of the daemon that runs.",
    )  # fmt: skip
    test.add_argument("file", type=Path, help="the configuration with the bindings")
    test.add_argument("--record", type=Path, required=True, help="made by edged mqtt record")
    test.add_argument("--binding", metavar="NAME", help="try this one only")
    test.add_argument("--json", action="store_true", help="one JSON object for each message")
    add_socket(test)


def _status(options: argparse.Namespace) -> int:
    from edged.client import Client  # noqa: PLC0415
    from edged.commands.mqtt_report import about_broker, is_well, render_mqtt  # noqa: PLC0415

    with Client(options.socket) as client:
        found = client.status()["mqtt"]
    if options.broker is not None and found is not None:
        found = about_broker(found, options.broker)
    print(json.dumps(found, indent=2) if options.json else render_mqtt(found))
    return 0 if found is not None and is_well(found) else STATUS[Code.UNAVAILABLE].exit


def _record(options: argparse.Namespace) -> int:
    from edged.commands.capture import CaptureWriter  # noqa: PLC0415
    from edged.commands.recording import at_broker, filters_of, record  # noqa: PLC0415
    from edged.config.load import load  # noqa: PLC0415

    if not 1 <= options.count <= _MOST_MESSAGES:
        raise InvalidRequestError(f"--count {options.count}: expected 1 to {_MOST_MESSAGES}")
    if not 1 <= options.max_bytes <= _MOST_BYTES:
        raise InvalidRequestError(f"--max-bytes {options.max_bytes}: expected 1 to {_MOST_BYTES}")
    if not 0 < options.seconds < math.inf:
        raise InvalidRequestError(f"--seconds {options.seconds}: expected a number above 0")
    snapshot = load(options.config)
    asked = at_broker(snapshot, options.broker)
    filters = filters_of(snapshot, options.topic, options.broker)
    limits = {"max_messages": options.count, "max_bytes": options.max_bytes}
    with CaptureWriter(options.file, **limits) as capture:
        try:
            record(asked, filters, capture, options.seconds, _say_line)
        finally:
            print(f"{options.file}: {capture.messages} messages, {capture.bytes} bytes")
    return 0


def _say_line(line: str) -> None:
    print(line, flush=True)


def _test(options: argparse.Namespace) -> int:
    from edged.commands.capture import read_capture  # noqa: PLC0415
    from edged.commands.replay import replay  # noqa: PLC0415
    from edged.config.load import load  # noqa: PLC0415

    say = _say_json if options.json else _say
    snapshot = load(options.file)
    messages = read_capture(options.record)
    counts = replay(snapshot, messages, options.socket, only=options.binding, say=say)
    bad = 0
    for name, found in counts.items():
        bad += found["dead_lettered"]
        if not options.json:
            words = ", ".join(f"{key} {value}" for key, value in found.items() if value)
            print(f"{name}: {words or 'nothing came for it'}")
    return STATUS[Code.INVALID_ARGUMENT].exit if bad else 0


def _say(outcome: Outcome) -> None:
    from edged.commands.capture import shown  # noqa: PLC0415

    message = outcome.message
    print(f"{message.topic}: {shown(message.payload, 200)}")
    for one in outcome.published:
        kept = ", retained" if one.retain else ""
        print(f"  -> {one.topic} (QoS {one.qos}{kept}): {shown(one.payload)}")
    if not outcome.published:
        print("  -> nothing" if outcome.is_acknowledged else "  -> no end in time")


def _say_json(outcome: Outcome) -> None:
    from edged.commands.capture import shown  # noqa: PLC0415

    published = [
        {
            "topic": one.topic, "qos": one.qos, "retain": one.retain,
            "content_type": one.content_type, "properties": dict(one.properties),
            "payload": shown(one.payload),
        }
        for one in outcome.published
    ]  # fmt: skip
    print(json.dumps({"topic": outcome.message.topic, "published": published}), flush=True)
