"""The floor of MQTT: paho in its own thread, what came sent back before it is acknowledged.

mqtt_echo.py PORT

Two connections, ``in/echo0`` at QoS 0 and ``in/echo1`` at QoS 1, where a message is acknowledged
when the broker has acknowledged its answer: the least that keeps the daemon's promise. Answers are
no longer than the daemon's, so that large requests cost what they cost it too.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import paho.mqtt.client as paho

from benchmarks.mqtt_client import open_client

ANSWER_BYTES = 128
open_messages: dict[int, paho.MQTTMessage] = {}


def echo(client: paho.Client, qos: int, message: paho.MQTTMessage) -> None:
    """Answer."""
    sent = client.publish(f"out/echo{qos}", message.payload[:ANSWER_BYTES], qos)
    if qos:
        open_messages[sent.mid] = message


def acknowledge(client: paho.Client, _: Any, mid: int, *_more: Any) -> None:
    """The broker has the answer; it cannot say so before ``echo`` ended, which this thread runs."""
    message = open_messages.pop(mid, None)
    if message is not None:
        client.ack(message.mid, message.qos)


if __name__ == "__main__":
    for number in (0, 1):
        topic = f"in/echo{number}"
        connection = open_client(int(sys.argv[1]), echo, topic, number, manual_ack=True)
        connection.user_data_set(number)
        connection.on_publish = acknowledge
        connection.loop_start()
    print("connected", flush=True)
    threading.Event().wait()
