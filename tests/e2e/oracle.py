"""A subscriber of its own that counts by id what became of every message."""

from __future__ import annotations

import itertools
import json
import threading
import time

from tests.e2e.process import wait_for
from tests.fakes.broker import Device, Mosquitto


class Oracle:
    """Hears results (the id is the last level) and dead letters; ``with Oracle(broker) as oracle:``.

    Args:
        broker: where to listen.
        node: of the daemon.
        filters: where results come.
    """

    def __init__(
        self, broker: Mosquitto, *filters: str, node: str = "test", version: int = 5
    ) -> None:
        self._errors = f"edged/{node}/error/"
        self._device = Device(broker, *(filters or ("out/#",)), f"{self._errors}#", version=version)
        self.results: dict[str, int] = {}
        self.letters: dict[str, list[str]] = {}

    def hear(self) -> set[str]:
        """Take in what has come; returns the ids that have an end by now."""
        while not self._device.inbox.empty():
            message = self._device.inbox.get()
            if message.topic.startswith(self._errors):
                letter = json.loads(message.payload)
                name = letter["topic"].rpartition("/")[2]
                self.letters.setdefault(name, []).append(letter["code"])
            else:
                name = message.topic.rpartition("/")[2]
                self.results[name] = self.results.get(name, 0) + 1
        return {*self.results, *self.letters}

    def wait_for(self, ids: set[str], seconds: float = 30) -> None:
        """Wait until each of these has an end."""
        wait_for(lambda: ids <= self.hear(), seconds)

    def more_than_one(self) -> dict[str, int]:
        """Ids with two ends or more."""
        counts = dict(self.results)
        for name, codes in self.letters.items():
            counts[name] = counts.get(name, 0) + len(codes)
        return {name: count for name, count in counts.items() if count > 1}

    def __enter__(self) -> Oracle:  # noqa: PYI034 - typing.Self is 3.11
        self._device.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._device.__exit__()


class Sender(threading.Thread):
    """A device that publishes ``in/<n>`` at QoS 1 until it is stopped; every one reached the broker.

    Args:
        broker: where to.
        every_s: time between two.
    """

    def __init__(self, broker: Mosquitto, every_s: float = 0.005) -> None:
        super().__init__()
        self._broker = broker
        self._every_s = every_s
        self._stopped = threading.Event()
        self.ids: set[str] = set()

    def run(self) -> None:
        with Device(self._broker) as device:
            for number in itertools.count():
                if self._stopped.is_set():
                    break
                device.publish(f"in/{number}", json.dumps([[number, 1, 2, 3]]))
                self.ids.add(str(number))
                time.sleep(self._every_s)

    def finish(self) -> set[str]:
        """Stop; returns the ids that were sent."""
        self._stopped.set()
        self.join(30)
        assert not self.is_alive()
        return self.ids
