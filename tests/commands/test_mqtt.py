"""``edged mqtt`` and ``edged bindings`` before a real daemon and a real broker."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.cli import main
from edged.client import Client
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.fakes.broker import Device, Mosquitto
from tests.models import double

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DaemonProcess, Mosquitto]]:
    folder = tmp_path_factory.mktemp("house")
    make_bundle(folder / "m-1.edgb", double(), name="m", release=1)
    with Mosquitto(folder) as broker:
        body = (
            "trust: {require_signatures: false}\nmqtt: {host: 127.0.0.1, port: "
            f"{broker.port}, max_inflight: 5000, report: 1s, questions: [models, manifest]}}\nmodels:\n  m: {{bundle: m-1.edgb}}\nbindings:\n"
            "  - {name: b, from: 'in/{id}', to: 'out/{id}', model: m}\n"
        )
        with running(folder, body) as daemon:
            wait_for(lambda: daemon.status()["ready"])
            wait_for(lambda: daemon.status()["mqtt"]["state"] == "connected")
            yield daemon, broker


def test_status(house, capsys) -> None:
    daemon, broker = house
    with Device(broker, "out/#") as device:
        device.publish("in/1", b"[[1, 2, 3, 4]]")
        device.one()
    wait_for(lambda: daemon.status()["mqtt"]["in_flight"] == 0)
    assert main(["mqtt", "status", "--socket", str(daemon.socket)]) == 0
    text = capsys.readouterr().out
    assert f"broker 127.0.0.1:{broker.port}: connected, MQTT 5, new session" in text
    assert "in flight 0 of " in text
    assert main(["mqtt", "status", "--json", "--socket", str(daemon.socket)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bindings"]["b"]["answered"] >= 1
    assert found["oldest_unacked_s"] is None
    assert found["session"] == "new"
    assert main(["mqtt", "status", "--broker", "mqtt", "--socket", str(daemon.socket)]) == 0
    assert "in flight 0" in capsys.readouterr().out
    assert main(["mqtt", "status", "--broker", "plant", "--socket", str(daemon.socket)]) != 0
    assert 'no broker in use is named "plant"; in use: mqtt' in capsys.readouterr().err
    # The model was measured before the broker was told: fewer than max_inflight, for no more wait.
    assert 1024 < found["places"] < 5000


def test_what_is_recorded_is_replayed_without_a_broker(house, tmp_path, capsys) -> None:
    daemon, broker = house
    capture = tmp_path / "capture.jsonl"

    def publish(stop: threading.Event) -> None:
        with Device(broker) as device:
            while not stop.wait(0.05):
                device.publish("in/7", b"[[1, 2, 3, 4]]", ResponseTopic="reply/7")
                device.publish("in/8", b"\xff\x00")

    stop = threading.Event()
    sender = threading.Thread(target=publish, args=(stop,))
    sender.start()
    try:
        words = ["mqtt", "record", "--config", str(daemon.config), str(capture)]
        assert main([*words, "--count", "4", "--seconds", "30"]) == 0
    finally:
        stop.set()
        sender.join()
    assert "recording in/+" in capsys.readouterr().out
    assert capture.stat().st_mode & 0o777 == 0o600
    assert len(capture.read_text().splitlines()) == 5
    # It was a guest: the daemon's status is as it was, and a second capture is not written over.
    assert daemon.status()["mqtt"]["state"] == "connected"
    assert main([*words, "--count", "1"]) != 0
    assert "is there already; name another file" in capsys.readouterr().err

    with Client(daemon.socket) as client:
        before = client.status()["mqtt"]["bindings"]["b"]["received"]
    tried = tmp_path / "tried.yaml"
    tried.write_text(daemon.config.read_text().replace("out/{id}", "tried/{id}"))
    replayed = ["bindings", "test", str(tried), "--record", str(capture)]
    assert main([*replayed, "--socket", str(daemon.socket)]) != 0, "two of them cannot be read"
    text = capsys.readouterr().out
    assert text.count("  -> reply/7 (QoS 1): ") == 2
    assert text.count("  -> edged/test/error/b (QoS 1): ") == 2
    assert "b: received 4, answered 2, dead_lettered 2" in text
    kept = [line for line in capture.read_text().splitlines() if "in/8" not in line]
    asked = [line.replace(',"response_topic":"reply/7"', "") for line in kept]
    capture.write_text("\n".join(asked) + "\n")
    assert main([*replayed, "--json", "--socket", str(daemon.socket)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["topic"] for line in lines for one in line["published"]] == ["tried/7"] * 2
    assert json.loads(lines[0]["published"][0]["payload"])["model"] == "m"
    assert daemon.status()["mqtt"]["bindings"]["b"]["received"] == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--count", "0"], "--count 0"),
        (["--seconds", "nan"], "--seconds nan"),
        (["--max-bytes", "0"], "--max-bytes 0"),
        (["--topic", "a/#/b"], "last level"),
        (["--broker", "plant"], 'no broker is named "plant"; brokers: mqtt'),
    ],
)
def test_what_cannot_be_recorded_is_said(house, tmp_path, capsys, words, said) -> None:
    path: Path = tmp_path / "never"
    daemon, _ = house
    assert main(["mqtt", "record", "--config", str(daemon.config), str(path), *words]) != 0
    assert said in capsys.readouterr().err
    assert not path.exists()


def test_the_same_is_said_on_a_topic(house) -> None:
    _, broker = house
    with Device(broker, "edged/test/metrics") as device:
        assert json.loads(device.one().payload)["bindings"].keys() == {"b"}
        with Device(broker, "edged/test/metrics") as late:
            assert late.one().retain


def test_questions_over_mqtt_are_answered_as_far_as_they_are_allowed(house) -> None:
    _, broker = house
    with Device(broker, "edged/test/res/#", "mine") as device:
        device.publish("edged/test/req/status", b"")
        device.publish("edged/test/req/models", b"")
        answer = device.one()
        assert answer.topic == "edged/test/res/models", "status is not on the list"
        assert json.loads(answer.payload)["data"][0]["name"] == "m"
        words = {"ResponseTopic": "mine", "CorrelationData": b"1"}
        device.publish("edged/test/req/manifest", b'{"model": "m"}', **words)
        answer = device.one()
        assert (answer.topic, answer.properties.CorrelationData) == ("mine", b"1")
        assert json.loads(json.loads(answer.payload)["data"])["name"] == "m"
    with (
        Device(broker, version=3, client_id="old") as old,
        Device(broker, "edged/test/res/#") as ear,
    ):
        old.publish("edged/test/req/models", b'{"transaction": "t1"}')
        assert json.loads(ear.one().payload)["transaction"] == "t1"
