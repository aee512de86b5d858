"""Three daemons behind one shared subscription, each of another speed: one drains, one is killed."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, wait_for
from tests.fakes.broker import Device, Mosquitto
from tests.models import double

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PACE_S = 0.01
"""A hundred requests a second: more than a third of them is too much for the slow one."""


class Member(DaemonProcess):
    """One daemon of the fleet, of a speed that does not depend on the machine.

    A run waits so long for company that never comes; so many requests are in hand at a time.
    """

    def __init__(
        self, directory: Path, broker: Mosquitto, delay_ms: int, places: int, *, steps_back: bool
    ) -> None:
        directory.mkdir()
        super().__init__(directory)
        self.name = directory.name
        self.speed = places * 1000 / delay_ms if delay_ms else 10_000
        word = str(steps_back).lower()
        self.write(
            "trust: {require_signatures: false}\n"
            f"mqtt: {{host: 127.0.0.1, port: {broker.port}, max_inflight: {places},"
            f" step_back: {word}}}\n"
            "models:\n  m: {bundle: ../m-1.edgb, batching: {max_queue_delay:"
            f" {delay_ms}ms}}}}\nbindings:\n"
            f"  - {{name: b, from: '$share/fleet/in/{{id}}', to: 'out/{self.name}/{{id}}',"
            " model: m, timeout: 30s}\n"
        )

    def head(self) -> str:
        return super().head().replace("node: test", f"node: {self.name}")


class Watch:
    """Sends requests at a pace, and hears who answered which."""

    def __init__(self, broker: Mosquitto) -> None:
        self.device = Device(broker, "out/#", "edged/+/error/#")
        self.answers: dict[str, list[str]] = {}
        self.by: Counter[str] = Counter()
        self.unmarked: list[str] = []
        self.letters: list[str] = []
        self._numbers = itertools.count()
        self.asked: set[str] = set()

    def ask(self, count: int, stop: threading.Event | None = None) -> None:
        for number in itertools.islice(self._numbers, count):
            if stop is not None and stop.is_set():
                return
            self.asked.add(str(number))
            self.device.publish(f"in/{number}", json.dumps([[number, 1, 2, 3]]), wait=False)
            time.sleep(PACE_S)

    def hear(self) -> set[str]:
        while not self.device.inbox.empty():
            message = self.device.inbox.get()
            _, name, number = message.topic.split("/", 2)
            if not message.topic.startswith("out/"):
                self.letters.append(message.payload.decode())
                continue
            self.by[name] += 1
            known = self.answers.setdefault(number, [])
            if known and ("edged-dup", "1") not in message.properties.UserProperty:
                self.unmarked.append(number)
            known.append(name)
        return set(self.answers)

    def all_answered(self) -> bool:
        return self.asked <= self.hear()


@contextlib.contextmanager
def fleet(tmp_path: Path, *, steps_back: bool) -> Iterator[tuple[Watch, list[Member]]]:
    make_bundle(tmp_path / "m-1.edgb", double(), name="m", release=1)
    (tmp_path / "broker").mkdir()
    with Mosquitto(tmp_path / "broker") as broker:
        members = [
            Member(tmp_path / "fast", broker, 0, 64, steps_back=False),
            Member(tmp_path / "middle", broker, 200, 4, steps_back=steps_back),
            Member(tmp_path / "slow", broker, 400, 2, steps_back=steps_back),
        ]
        watch = Watch(broker)
        try:
            for member in members:
                member.start(wait=False)
            for member in members:
                wait_for(member.is_up, 60)
                wait_for(lambda m=member: m.status()["mqtt"]["state"] == "connected", 60)
                wait_for(lambda m=member: m.status()["ready"], 60)
            with watch.device:
                yield watch, members
        finally:
            for member in members:
                member.stop()


def test_load_follows_speed_and_nothing_is_lost(tmp_path: Path) -> None:
    with fleet(tmp_path, steps_back=True) as (watch, (fast, middle, slow)):
        watch.ask(300)
        wait_for(watch.all_answered, 60)
        share = dict(watch.by)
        print("answered:", share)
        assert share["slow"] < share["middle"] < share["fast"], share
        assert share["slow"] < 60, "a third would be 100; it can do 5 a second"
        assert slow.status()["mqtt"]["times_back"] > 0

        stop = threading.Event()
        sender = threading.Thread(target=watch.ask, args=(10_000, stop))
        sender.start()
        try:
            wait_for(lambda: watch.hear() and watch.by["slow"] > share["slow"] + 2, 30)
            assert slow.stop() == 0, slow.tail()  # drained
            left = "may be left at the broker"
            assert left not in slow.log.read_text()
            watch.hear()
            drained = len(watch.asked)
            wait_for(lambda: watch.hear() and len(watch.asked) > drained + 50, 30)
            middle.kill()
            killed = len(watch.asked)
            wait_for(lambda: len(watch.asked) > killed + 50, 30)
            middle.start()
        finally:
            stop.set()
            sender.join()
        wait_for(watch.all_answered, 60)
        print("answered:", dict(watch.by), "of", len(watch.asked))
        assert watch.letters == []
        assert watch.unmarked == []
        assert fast.status()["mqtt"]["times_back"] == 0


def test_without_stepping_back_the_slow_one_gets_its_third(tmp_path: Path) -> None:
    """The control: the broker hands out in turn, and what the slow one got waits for it."""
    with fleet(tmp_path, steps_back=False) as (watch, _):
        watch.ask(60)
        wait_for(watch.all_answered, 60)
        print("answered:", dict(watch.by))
        assert max(watch.by.values()) - min(watch.by.values()) <= 2, watch.by
