"""The outbox: records a second that are synced, memory while they wait, and how fast they leave.

On the file system of the temporary folder (TMPDIR): what it syncs is what is measured.
"""

from __future__ import annotations

import queue
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.broker import PAYLOAD, mosquitto, program_of, wait_for_broker
from benchmarks.mqtt_client import IN_FLIGHT, ask
from benchmarks.native import config, cpu_seconds
from benchmarks.results import Row, measured, not_measured
from benchmarks.stand import BenchError, Stand, load_average
from edged.outbox.age import now
from edged.outbox.entry import Entry, Policy
from edged.outbox.outbox import Outbox

ROUNDS, ROUND_S = 5, 2.0
MANY = 1_000_000
ROWS = [
    ("outbox-32", "/s", ">= 4000"),
    ("outbox-memory", "MB", "<= 20"),
    ("outbox-drain", "/s", ">= 2000"),
    ("mqtt-results", "/s", ">= 4000"),
]


class Box:
    """An outbox and the loop of its house."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.posts: queue.Queue[Callable[[], None]] = queue.Queue()
        self.outbox = Outbox.in_folder(folder, self.posts.put, max_bytes=max_bytes)
        self.outbox.open()
        self.outbox.start()
        self.kept = self.put = 0

    def add(self) -> None:
        """Put a result in."""
        self.put += 1
        entry = Entry(b"out/%d" % (self.put % 100), PAYLOAD, now(), policy=Policy.DROP_OLDEST)
        self.outbox.put(entry, self._on_kept)

    def _on_kept(self, reason: str) -> None:
        if reason:
            raise BenchError(reason)
        self.kept += 1

    def fill(self, until: Callable[[], bool], in_flight: int) -> None:
        """Put in, so many at a time."""
        while not until():
            while self.put - self.kept < in_flight:
                self.add()
            self.posts.get()()
        while self.kept < self.put:
            self.posts.get()()


def outbox(stand: Stand) -> list[Row]:
    """All four rows."""
    return [*_alone(stand), _two_brokers(stand)]


def _alone(stand: Stand) -> list[Row]:
    folder = stand.folder / "outbox"
    rates = []
    for _ in range(ROUNDS):
        box = Box(folder, 1 << 30)
        end = time.monotonic() + ROUND_S * stand.scale
        begun = time.monotonic()
        box.fill(lambda end=end: time.monotonic() >= end, IN_FLIGHT)  # type: ignore[misc]
        rates.append(box.kept / (time.monotonic() - begun))
        box.outbox.stop()
        shutil.rmtree(folder)
    box = Box(folder, 1 << 30)
    box.fill(lambda: box.put >= 10_000, IN_FLIGHT)
    before, many = _resident_mb(), int(MANY * min(1.0, stand.scale))
    box.fill(lambda: box.put >= many, 1024)
    grown, waiting = _resident_mb() - before, box.outbox.stats()
    begun, taken = time.monotonic(), 0
    while taken < min(many, 200_000):
        entry = box.outbox.take()
        if entry is None:
            box.posts.get()()
        else:
            box.outbox.done(entry)
            taken += 1
    drained = taken / (time.monotonic() - begun)
    box.outbox.stop()
    shutil.rmtree(folder)
    load = {"load_average": load_average()}
    raws = ({"per_s": rates, **load}, {"results": many, "outbox": waiting, **load}, load)
    values = (max(rates), grown, drained)
    return [
        measured(name, value, unit, bar, raw)
        for (name, unit, bar), value, raw in zip(ROWS[:3], values, raws, strict=True)
    ]


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _two_brokers(stand: Stand) -> Row:
    name, unit, bar = ROWS[3]
    program = program_of()
    if program is None:
        return not_measured(name, unit, bar, "mosquitto is not installed")
    folders = [stand.folder / "first", stand.folder / "second"]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    model = stand.tiny()
    payload = stand.folder / "payload"
    payload.write_bytes(PAYLOAD)
    with mosquitto(program, folders[0]) as first, mosquitto(program, folders[1]) as second:
        body = config(model) + (
            f"mqtt: {{host: 127.0.0.1, port: {first}, client: native, "
            f"results: {{host: 127.0.0.1, port: {second}}}}}\n"
            "bindings: [{name: b, from: 'in/edged', to: 'out/edged', model: tiny}]\n"
        )
        with stand.daemon(body) as daemon:
            wait_for_broker(daemon)
            before, seconds = cpu_seconds(daemon.pid), ROUND_S * stand.scale
            ports = (first, second)
            rates = [
                ask(stand, ports, "edged", payload, seconds=seconds)["per_s"] for _ in range(ROUNDS)
            ]
            used = cpu_seconds(daemon.pid) - before
            box = daemon.status()["mqtt"]["results"]["outbox"]
    cpu_us = used / box["delivered"] * 1e6
    raw = {
        "per_s": rates,
        "cpu_us_per_message": cpu_us,
        "outbox": box,
        "load_average": load_average(),
    }
    return measured(name, max(rates), unit, bar, raw)
