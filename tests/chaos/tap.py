"""A proxy between the daemon and a broker that writes down what each has promised the other.

It stands on the broker's side of the network: what it has seen has arrived there.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import threading

from tests.chaos.book import DUP, Book
from tests.chaos.frames import Ack, Hello, Packet, Publish, Reader


class Scribe:
    """One connection's packets, written into the book; pure.

    Args:
        book: shared by all connections.
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        self._from_daemon, self._from_broker = Reader(), Reader()
        self._requests: dict[int, int] = {}  # packet identifiers of the broker
        self._results: dict[int, int] = {}  # packet identifiers of the daemon

    def daemon_said(self, data: bytes) -> None:
        """Bytes on their way to the broker."""
        for packet in self._from_daemon.feed(data):
            with self._book.lock:
                self._daemon(packet)

    def broker_said(self, data: bytes) -> None:
        """Bytes on their way to the daemon."""
        for packet in self._from_broker.feed(data):
            with self._book.lock:
                self._broker(packet)

    def _daemon(self, packet: Packet) -> None:
        if isinstance(packet, Hello):
            self._from_daemon.is_v5 = self._from_broker.is_v5 = packet.is_v5
        elif isinstance(packet, Ack):
            number = self._requests.pop(packet.packet_id, None)
            if number is not None:
                self._book.of(number).acked += 1
        elif packet.topic.startswith(("out/", "reply/")):
            number = int(packet.topic.rpartition("/")[2])
            fate = self._book.of(number)
            if packet.is_dup or DUP in packet.properties:
                fate.sent_marked += 1
            else:
                fate.sent += 1
            self._results[packet.packet_id] = number
        elif "/error/" in packet.topic:
            letter = json.loads(packet.payload)
            number = int(letter["topic"].rpartition("/")[2])
            self._book.of(number).letters.append(letter["code"])

    def _broker(self, packet: Packet) -> None:
        if isinstance(packet, Publish) and packet.topic.startswith("in/"):
            number = int(packet.topic.rpartition("/")[2])
            fate = self._book.of(number)
            if packet.is_dup:
                fate.again += 1
            else:
                fate.first_time += 1
            self._requests[packet.packet_id] = number
        elif isinstance(packet, Ack):
            number = self._results.pop(packet.packet_id, None)
            if number is not None and packet.reason < 0x80:
                self._book.of(number).taken += 1


class Tap:
    """Listens where the daemon connects to; ``with Tap(address, port, book) as tap:``.

    Args:
        address: to listen on; ``port`` is a free one.
        target: the broker's port on loopback.
        book: where it is written down.
    """

    def __init__(self, address: str, target: int, book: Book) -> None:
        self._target = target
        self._book = book
        self._listener = socket.create_server((address, 0))
        self.port = self._listener.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self.problems: list[str] = []

    def hold(self) -> None:
        """Let nothing through, and close nothing: a network that swallows everything."""
        self._open.clear()

    def release(self) -> None:
        """Let through what was held, as a network does that sends lost packets again."""
        self._open.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            self._open.wait()
            broker = socket.create_connection(("127.0.0.1", self._target))
            with broker:
                for sock in (client, broker):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    self._pump(client, broker, Scribe(self._book))
                except (ValueError, IndexError, UnicodeDecodeError) as exc:
                    self.problems.append(f"no MQTT: {exc!r}")

    def _pump(self, client: socket.socket, broker: socket.socket, scribe: Scribe) -> None:
        ways = {client: (broker, scribe.daemon_said), broker: (client, scribe.broker_said)}
        with selectors.DefaultSelector() as selector:
            for sock in ways:
                selector.register(sock, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    other, said = ways[key.fileobj]  # type: ignore[index]
                    self._open.wait()
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if not data:
                        return
                    said(data)
                    other.sendall(data)

    def __enter__(self) -> Tap:  # noqa: PYI034 - typing.Self is 3.11
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
