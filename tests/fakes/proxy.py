"""A TCP proxy before a broker, for the faults a network makes."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading


class Proxy:
    """Forwards to a port; ``with Proxy(port) as proxy:``.

    Args:
        target: the port of the broker.
        answer_v5: sent instead of forwarding a CONNECT of MQTT 5, before hanging up; None forwards.
    """

    def __init__(self, target: int, *, answer_v5: bytes | None = None) -> None:
        self.target = target
        self.answer_v5 = answer_v5
        self.swallow = False
        self.connects = 0
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def cut(self) -> None:
        """Break every connection."""
        with self._lock:
            for pair in self._pairs:
                for sock in pair:
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connects += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            first = client.recv(65536)
            if self.answer_v5 is not None and b"MQTT\x05" in first[:12]:
                client.sendall(self.answer_v5)
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            with server:
                server.sendall(first)
                pair = (client, server)
                with self._lock:
                    self._pairs.add(pair)
                try:
                    self._pump(client, server)
                except OSError:
                    pass
                finally:
                    with self._lock:
                        self._pairs.discard(pair)

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(65536)
                    if not data:
                        return
                    if not self.swallow:
                        key.data.sendall(data)

    def __enter__(self) -> Proxy:  # noqa: PYI034 - typing.Self is 3.11
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join(5)
