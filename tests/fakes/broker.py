"""A real mosquitto on a free port, and a plain device that talks to it."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

MOSQUITTO = shutil.which(
    "mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Mosquitto:
    """A broker process; ``with Mosquitto(tmp_path) as broker:``.

    Args:
        directory: for its configuration, log and store.
        config: further lines of mosquitto.conf.
        listener: further lines that belong to the listener, such as TLS.
        acl: an ACL file's text.
        anonymous: whether clients need no password.
        persistent: keep sessions over ``restart``.
        port: a free one by default.
    """

    def __init__(
        self,
        directory: Path,
        config: str = "",
        *,
        listener: str = "",
        acl: str | None = None,
        anonymous: bool = True,
        persistent: bool = False,
        port: int = 0,
    ) -> None:
        self.port = port or free_port()
        self.log = directory / "mosquitto.log"
        self._conf = directory / "mosquitto.conf"
        self._process: subprocess.Popen[bytes] | None = None
        lines = [
            f"listener {self.port} 127.0.0.1",
            *listener.splitlines(),
            f"allow_anonymous {str(anonymous).lower()}",
            f"persistence {str(persistent).lower()}",
            f"persistence_location {directory}/",
            "max_queued_messages 100000",
            *config.splitlines(),
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # the store is in a directory of ours
        if acl is not None:
            path = directory / "acl"
            path.write_text(acl)
            path.chmod(0o600)
            lines.append(f"acl_file {path}")
        self._conf.write_text("\n".join(lines) + "\n")

    @property
    def url(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def start(self) -> Mosquitto:
        assert MOSQUITTO is not None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [MOSQUITTO, "-c", str(self._conf)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(self.url, 1):
                return self
            if self._process.poll() is not None:
                break
            time.sleep(0.01)
        self.stop()
        raise RuntimeError(f"mosquitto does not start: {self.log.read_text()}")

    def stop(self, sig: int = signal.SIGTERM) -> None:
        """End it: SIGTERM writes its store, SIGKILL is a crash."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(sig)
        if process is not None:
            process.wait(10)

    def send(self, sig: int) -> None:
        """SIGUSR1 makes it write its store, SIGHUP read its configuration."""
        assert self._process is not None
        self._process.send_signal(sig)

    def restart(self, sig: int = signal.SIGTERM) -> None:
        self.stop(sig)
        self.start()

    def __enter__(self) -> Mosquitto:  # noqa: PYI034 - typing.Self is 3.11
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class Device:
    """A plain client with its own thread: publishes, and keeps what it hears.

    ``with Device(broker, "results/#") as device:``; ``device.get(3)`` waits for three messages.
    """

    def __init__(self, broker: Mosquitto, *filters: str, version: int = 5, qos: int = 1, **kw: Any):
        self._v5 = version == 5
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            protocol=paho.MQTTv5 if self._v5 else paho.MQTTv311,
            **kw,
        )
        self._client.max_inflight_messages = 20
        self.inbox: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self._ready = threading.Event()
        self._filters = [(text, qos) for text in filters]
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda _c, _u, message: self.inbox.put(message)
        self._client.on_socket_open = lambda _c, _u, sock: sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        self._client.connect(*broker.url)

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        if self._filters:
            client.subscribe(self._filters)
        else:
            self._ready.set()

    def publish(
        self,
        topic: str,
        payload: bytes | str,
        qos: int = 1,
        *,
        retain: bool = False,
        wait: bool = True,
        **properties: Any,
    ) -> None:
        words = None
        if properties:
            words = Properties(PacketTypes.PUBLISH)
            for key, value in properties.items():
                setattr(words, key, value)
        info = self._client.publish(topic, payload, qos, retain, words)
        if wait:
            info.wait_for_publish(10)

    def get(self, count: int = 1, timeout_s: float = 10) -> list[paho.MQTTMessage]:
        deadline = time.monotonic() + timeout_s
        return [self.inbox.get(timeout=max(0, deadline - time.monotonic())) for _ in range(count)]

    def one(self, timeout_s: float = 10) -> paho.MQTTMessage:
        return self.get(1, timeout_s)[0]

    def __enter__(self) -> Device:  # noqa: PYI034 - typing.Self is 3.11
        self._client.loop_start()
        assert self._ready.wait(10), "the device could not connect"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
