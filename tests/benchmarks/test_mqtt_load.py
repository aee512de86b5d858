"""The load generator for MQTT against a real broker and one who answers, or does not."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from benchmarks.stand import program
from tests.fakes.broker import MOSQUITTO, Device, Mosquitto

SOURCES = Path(__file__).resolve().parents[2] / "benchmarks"
COMPILER = shutil.which("cc")
pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(COMPILER is None, reason="no C compiler here"),
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
]


def compiled(name: str, folder: Path) -> Path:
    assert COMPILER is not None
    command = [COMPILER, "-O1", "-Wall", "-Wextra", "-Werror", "-o", folder / name]
    subprocess.run([*command, SOURCES / f"{name}.c"], check=True)
    return folder / name


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled("mqtt_load", tmp_path_factory.mktemp("load"))


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A broker before an echo that answers on ``out`` what came on ``in/…``."""

    def answer(client: paho.Client, _: object, message: paho.MQTTMessage) -> None:
        bodies = {"in/echo": message.payload, "in/error": b'{"error": {}}'}
        if message.topic not in bodies:
            return
        client.publish("out", bodies[message.topic], message.qos)

    with Mosquitto(tmp_path_factory.mktemp("broker")) as broker, Device(broker, "in/#") as echo:
        echo._client.on_message = answer
        yield broker.port


def run(
    load: Path, folder: Path, port: int, topic: str, qos: int, in_flight: int = 4
) -> subprocess.CompletedProcess[str]:
    (folder / "payload").write_bytes(b"p" * 1000)
    words = [port, port, topic, "out", folder / "payload", qos, in_flight, 0.2]
    return subprocess.run(
        [load, *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("qos", [0, 1])
def test_answers_are_counted_and_timed(load: Path, tmp_path: Path, port: int, qos: int):
    done = run(load, tmp_path, port, "in/echo", qos)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["answered"] > 4
    assert 0 < report["p50_us"] <= report["p99_us"]
    assert report["errors"] == report["refused"] == 0


def test_an_error_is_no_answer(load: Path, tmp_path: Path, port: int):
    done = run(load, tmp_path, port, "in/error", 1)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["errors"] >= report["answered"] > 0


def test_a_broker_that_is_not_there(load: Path, tmp_path: Path):
    done = run(load, tmp_path, 1, "in/echo", 1)
    assert done.returncode == 1
    assert "connect" in done.stderr


def test_the_floor_answers_and_acknowledges(load: Path, tmp_path: Path, port: int):
    floor, answered = compiled("mqtt_echo_floor", tmp_path), 0
    with program(floor, port, "in/floor", "out"):
        # mosquitto leaves 20 on their way, however many ask; more come to one who acknowledges.
        while answered <= 100:
            done = run(load, tmp_path, port, "in/floor", 1)
            assert done.returncode == 0, done.stderr
            answered += json.loads(done.stdout)["answered"]
