"""Windows, joins and rules for publishing, in the daemon's time on the processor."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as paho

from benchmarks import figures
from benchmarks.broker import PAYLOAD, mosquitto, program_of, wait_for_broker
from benchmarks.native import config, cpu_seconds, prepare
from benchmarks.results import Row, measured, not_measured
from benchmarks.stand import BenchError, Daemon, Stand, load_average

UNIT = "x"
FEED = "feed"
WINDOW_ROWS = 4
KINDS = {"plain": 1, "window": WINDOW_ROWS, "window-memory": WINDOW_ROWS, "join": 2}
"""Bindings, and how many messages make an answer."""
ROWS: list[tuple[str, str, str]] = [
    *((f"mqtt-{kind}", UNIT, "") for kind in KINDS if kind != "plain"),
    (FEED, "us", ""),
]
ROUNDS = 5
MESSAGES = 8000
DEVICES = 32
LIMIT_S = 60.0
_COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")


def gathered(stand: Stand) -> list[Row]:
    """All rows: each round has every kind of binding, one right after the other."""
    broker = program_of()
    if broker is None:
        return [not_measured(*row, "mosquitto is not installed") for row in ROWS]
    tiny, (wide, _) = stand.tiny(), stand.heavy(0, 16)
    with mosquitto(broker, stand.folder) as port:
        body = (
            f"runtime: {{threads: 1}}\nmodels: {{tiny: {{bundle: {tiny.bundles[1]}}}, "
            f"m0: {{bundle: {wide}}}}}\nmqtt: {{host: 127.0.0.1, port: {port}, client_id: bench}}\n"
            f"bindings:\n{_bindings()}"
        )
        with stand.daemon(body) as daemon, Asker(port) as asker:
            wait_for_broker(daemon)
            found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
            for _ in range(ROUNDS):
                for kind in KINDS:
                    found[kind].append(_round(daemon, asker, kind, int(MESSAGES * stand.scale)))
        feed = _feed(stand, port)
    raw: dict[str, Any] = {"load_average": load_average(), **found}
    used = {kind: [one["cpu_us"] for one in rounds] for kind, rounds in found.items()}
    return [
        *(
            measured(f"mqtt-{kind}", figures.paired_ratio(used[kind], used["plain"]), UNIT, "", raw)
            for kind in KINDS
            if kind != "plain"
        ),
        feed,
    ]


def _bindings() -> str:
    window = f"rows: {WINDOW_ROWS}, key: '{{d}}'"
    columns = f"fields: [{', '.join(_COLUMNS)}]"
    first, second = (f"fields: [{', '.join(half)}]" for half in (_COLUMNS[:2], _COLUMNS[2:]))
    words = {
        "plain": "model: tiny",
        "window": f"model: m0, {columns}, window: {{{window}}}",
        "window-memory": f"model: m0, {columns}, window: {{{window}, keep: memory}}",
        "join": f"model: tiny, {first}, join: [{{from: 'part/{{d}}', {second}}}]",
    }
    return "".join(
        f"  - {{name: {kind}, from: '{kind}/{{d}}', to: 'out/{kind}/{{d}}', {more}}}\n"
        for kind, more in words.items()
    )


class Asker:
    """Publishes, and hears the answers of the last device alone; ``with Asker(port) as asker:``."""

    def __init__(self, port: int) -> None:
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_message = lambda *_: self._answered.set()
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._answered, self._ready = threading.Event(), threading.Event()
        self._client.max_inflight_messages = 1000
        self._client.connect("127.0.0.1", port)
        self._client.subscribe("out/+/last", 1)

    def publish(self, topics: Iterator[str]) -> None:
        """Until the broker has all of them."""
        self._answered.clear()
        sent = [self._client.publish(topic, PAYLOAD, 1) for topic in topics]
        for one in sent:
            one.wait_for_publish(LIMIT_S)

    def hear(self) -> None:
        """Wait for an answer to the last device."""
        if not self._answered.wait(LIMIT_S):
            raise BenchError("the last message was not answered")

    def __enter__(self) -> Asker:  # noqa: PYI034 - typing.Self is 3.11
        self._client.loop_start()
        if not self._ready.wait(10):
            raise BenchError("the broker did not take a subscription")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def _topics(kind: str, messages: int) -> Iterator[str]:
    """Of so many messages, the last of which makes the last answer."""
    for at in range(messages):
        turn, step = divmod(at, 2) if kind == "join" else (at, 1)
        name = "last" if messages - at <= KINDS[kind] else str(turn % DEVICES)
        yield f"part/{name}" if not step else f"{kind}/{name}"


def _round(daemon: Daemon, asker: Asker, kind: str, messages: int) -> dict[str, float]:
    """What waited at the broker while the daemon stood still: nobody waits for the asker."""
    before = _ended(daemon, kind)
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        asker.publish(_topics(kind, messages))
        used, began = cpu_seconds(daemon.pid), time.monotonic()
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    asker.hear()
    took = time.monotonic() - began
    until = time.monotonic() + LIMIT_S
    used = cpu_seconds(daemon.pid) - used
    while _ended(daemon, kind) - before < messages:
        if time.monotonic() > until:
            raise BenchError(f"{kind}: {_ended(daemon, kind) - before} of {messages} ended")
        time.sleep(0.05)
    return {"per_s": messages / took, "cpu_us": used * 1e6 / messages}


def _ended(daemon: Daemon, kind: str) -> int:
    found = daemon.status()["mqtt"]["bindings"][kind]
    if found["dead_lettered"]:
        raise BenchError(f"{kind}: {found}")
    return int(found["answered"] + found["gathered"])


def _feed(stand: Stand, port: int) -> Row:
    """What a request over the socket costs more, of a model whose answers are published too."""
    model = stand.tiny()
    mqtt = f"mqtt: {{host: 127.0.0.1, port: {port}, client_id: bench-%s, base: bench/%s}}\n"
    rule = ", publish: {to: 'fed/{model}'}"
    with (
        stand.daemon(config(model) + mqtt.replace("%s", "bare")) as bare,
        stand.daemon(config(model, rule) + mqtt.replace("%s", "fed")) as fed,
        bare.client() as first,
        fed.client() as second,
    ):
        used: dict[str, list[float]] = {"bare": [], "fed": []}
        calls = {"bare": (bare, prepare(first, model)), "fed": (fed, prepare(second, model))}
        row = model.request(0)
        for daemon, _ in calls.values():
            wait_for_broker(daemon)
        count = int(MESSAGES * stand.scale)
        for _ in range(ROUNDS):
            for side, (daemon, call) in calls.items():
                before = cpu_seconds(daemon.pid)
                for _ in range(count):
                    call(row)
                time.sleep(0.5)  # what is published comes behind the answers
                used[side].append((cpu_seconds(daemon.pid) - before) * 1e6 / count)
        feeds = fed.status()["mqtt"]["feeds"]["tiny"]
    over = [more - less for more, less in zip(used["fed"], used["bare"], strict=True)]
    raw = {"load_average": load_average(), "feed": feeds, **used}
    return measured(FEED, figures.median(over), "us", "", raw)
