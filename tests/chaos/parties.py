"""Who takes part: a device that asks, listeners that hear, both with sessions that outlive a broker."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.chaos.book import Book, is_by_outbox, request


def client(name: str) -> paho.Client:
    found = paho.Client(paho.CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5)
    found.reconnect_delay_set(1, 1)
    found.max_queued_messages_set(0)
    return found


def connect(one: paho.Client, port: int) -> None:
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 86400
    one.connect_async("127.0.0.1", port, 10, clean_start=False, properties=properties)
    one.loop_start()


class Listener:
    """Hears results and writes them into the book; ``with Listener(port, book, "a"):``."""

    def __init__(self, port: int, book: Book, name: str) -> None:
        self._port = port
        self._book = book
        self._ready = threading.Event()
        self._client = client(f"listener-{name}")
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message
        self.odd: list[str] = []

    def _on_connect(self, one: paho.Client, *_: Any) -> None:
        one.subscribe([("out/+", 1), ("reply/+", 1)])

    def _on_message(self, _c: Any, _u: Any, message: paho.MQTTMessage) -> None:
        try:
            number = int(message.topic.rpartition("/")[2])
        except ValueError:
            self.odd.append(message.topic)
            return
        self._book.heard(number, message.payload)

    def __enter__(self) -> Listener:  # noqa: PYI034 - typing.Self is 3.11
        connect(self._client, self._port)
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Device(threading.Thread):
    """Asks in bursts, so that some are always in the daemon's hands, as far as its broker takes it.

    Args:
        port: its broker.
        book: what was asked.
        every_s: time between two bursts.
    """

    BURST = 10
    OPEN = 200
    """So many may wait for the broker's acknowledgement."""

    def __init__(self, port: int, book: Book, every_s: float) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._book = book
        self._every_s = every_s
        self._stopped = threading.Event()
        self.has_asked = threading.Event()  # a burst is on its way
        self._lock = (
            threading.Lock()
        )  # never held in a callback of paho's, which has locks of its own
        self._open: dict[int, int] = {}
        self._taken: deque[int] = deque()
        self._next = 0
        self._client = client("device")
        self._client.max_inflight_messages_set(50)
        self._client.on_publish = lambda _c, _u, mid, *_: self._taken.append(mid)

    def open(self) -> int:
        """How many the broker has not acknowledged yet; those it has are written down."""
        with self._lock:
            for _ in range(len(self._taken)):
                mid = self._taken.popleft()
                number = self._open.pop(mid, None)
                if number is not None:
                    self._book.offered(number)
            return len(self._open)

    def ask(self) -> int:
        """One more request; returns its number."""
        with self._lock:
            number, self._next = self._next, self._next + 1
            properties = Properties(PacketTypes.PUBLISH)
            if not is_by_outbox(number):
                properties.ResponseTopic = f"reply/{number}"
            info = self._client.publish(f"in/{number}", request(number), 1, properties=properties)
            self._open[info.mid] = number
        return number

    def run(self) -> None:
        connect(self._client, self._port)
        while not self._stopped.wait(self._every_s):
            if self._client.is_connected() and self.open() < self.OPEN:
                for _ in range(self.BURST):
                    self.ask()
                self.has_asked.set()

    def pause(self, seconds: float = 60) -> None:
        """Ask nothing more by itself, and see to it that the broker has all of it."""
        self._stopped.set()
        until = time.monotonic() + seconds
        while self.open() and time.monotonic() < until:
            time.sleep(0.05)
        assert not self.open(), "the first broker did not take the device's messages"

    def close(self) -> None:
        self._stopped.set()
        self._client.disconnect()
        self._client.loop_stop()
