"""The people's side: an MQTT subscriber that sees every result and every dead letter.

Knows nothing of what was sent. Prints one JSON line for each message that arrives, and stops at the
end of standard input.

    python counter.py PORT TOPIC_FILTER...
"""

from __future__ import annotations

import json
import socket
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion


def send_at_once(_client: object, _userdata: object, sock: socket.socket) -> None:
    """Small messages must not wait for company."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def show(client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
    """Print one message: its id, when it came, topic, user properties and payload."""
    received_ns = time.monotonic_ns()
    del client, userdata
    correlation = getattr(message.properties, "CorrelationData", b"")
    line = {
        "id": correlation.decode("utf-8", "replace"),
        "received_ns": received_ns,
        "topic": message.topic,
        "properties": dict(getattr(message.properties, "UserProperty", [])),
        "payload": json.loads(message.payload or b"null"),
    }
    print(json.dumps(line) + "\n", end="", flush=True)  # in one piece: two threads write


def main() -> None:
    """Subscribe, say so, and print until standard input ends."""
    port, *filters = sys.argv[1:]
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, "counter", protocol=MQTTProtocolVersion.MQTTv5
    )
    client.on_message = show
    client.on_subscribe = lambda *_arguments: print('{"subscribed": true}', flush=True)
    client.on_socket_open = send_at_once
    client.connect("127.0.0.1", int(port))
    client.loop_start()
    client.subscribe([(topic, 1) for topic in filters])
    sys.stdin.read()
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    main()
