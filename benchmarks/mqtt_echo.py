"""The floor of MQTT: paho in its own thread, each message sent back at once and acknowledged.

mqtt_echo.py PORT
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import paho.mqtt.client as paho

from benchmarks.mqtt_client import open_client


def echo(client: paho.Client, _: Any, message: paho.MQTTMessage) -> None:
    """Answer, then acknowledge."""
    client.publish("out/echo", message.payload, 1)
    client.ack(message.mid, message.qos)


if __name__ == "__main__":
    connection = open_client(int(sys.argv[1]), echo, "in/echo", manual_ack=True)
    connection.loop_start()
    print("connected", flush=True)
    threading.Event().wait()
