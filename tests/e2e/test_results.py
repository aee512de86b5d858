"""Results to another broker, through the outbox of a real daemon: what was acknowledged arrives."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest

from edged.broker.results import left_on_disk
from tests.bundles import make_bundle
from tests.e2e.oracle import Oracle, Sender
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.fakes.broker import Device, Mosquitto
from tests.models import double

pytestmark = pytest.mark.broker


def body(first: Mosquitto, second: Mosquitto | None, binding: str = "", outbox: str = "") -> str:
    results = ""
    if second is not None:
        results = f", results: {{host: 127.0.0.1, port: {second.port}}}"
    return (
        "trust: {require_signatures: false}\nreload: {settle: 20ms, poll: 300ms}\n"
        f"mqtt: {{host: 127.0.0.1, port: {first.port}{results}{outbox}}}\n"
        "models:\n  m: {bundle: m-1.edgb}\nbindings:\n"
        f"  - {{name: b, from: 'in/{{id}}', to: 'out/{{id}}', model: m, codec: json{binding}}}\n"
    )


@pytest.fixture
def box(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "m-1.edgb", double(), name="m", release=1)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    return tmp_path


def outbox(daemon: DaemonProcess) -> dict[str, int]:
    found: dict[str, int] = daemon.status()["mqtt"]["results"]["outbox"]
    return found


def is_up(daemon: DaemonProcess) -> bool:
    return bool(daemon.status()["mqtt"]["state"] == "connected")


def ask(device: Device, numbers: range) -> set[str]:
    for number in numbers:
        device.publish(f"in/{number}", json.dumps([[number, 1, 2, 3]]))
    return {str(number) for number in numbers}


def test_results_go_there_errors_stay_and_replies_too(box: Path) -> None:
    with (
        Mosquitto(box / "first") as first,
        Mosquitto(box / "second") as second,
        Device(first, "out/#", "edged/test/error/#", "reply") as here,
        Device(second, "out/#", "edged/test/status") as there,
        running(box, body(first, second)) as daemon,
    ):
        wait_for(lambda: is_up(daemon))
        assert there.one().payload == b"online"
        here.publish("in/1", b"[[1, 2, 3, 4]]")
        answer = there.one()
        assert answer.topic == "out/1"
        assert json.loads(answer.payload)["model"] == "m"
        here.publish("in/2", b"nonsense")
        assert here.one().topic == "edged/test/error/b"
        here.publish("in/3", b"[[1, 2, 3, 4]]", ResponseTopic="reply")
        assert here.one().topic == "reply"
        wait_for(lambda: outbox(daemon)["delivered"] == 1)
        assert outbox(daemon)["entries"] == 0
        daemon.stop()
        assert there.one().payload == b"offline"


@pytest.mark.slow
def test_a_broker_of_results_that_comes_late_and_daemons_that_are_killed_meanwhile(
    box: Path,
) -> None:
    """Kill -9 again and again; each request has an end at last, and what is twice is marked."""
    rng = random.Random(1)
    second = Mosquitto(box / "second")
    with Mosquitto(box / "first", persistent=True) as first:
        daemon = DaemonProcess(box)
        daemon.write(body(first, second))
        daemon.start()
        wait_for(lambda: is_up(daemon))
        sender = Sender(first)
        sender.start()
        try:
            for _ in range(3):
                time.sleep(rng.uniform(0.2, 0.8))
                daemon.kill()
                daemon.start()
            wait_for(lambda: is_up(daemon))
            time.sleep(0.5)
        finally:
            ids = sender.finish()
        wait_for(lambda: outbox(daemon)["entries"] >= len(ids), 60)
        wait_for(lambda: daemon.status()["mqtt"]["bindings"]["b"]["in_flight"] == 0)
        assert "mqtt.results" in daemon.status()["degradations"]
        # All is acknowledged: the first broker has nothing left, and may go.
        first.stop()
        with second, Oracle(second) as oracle:
            oracle.wait_for(ids, 60)
            wait_for(lambda: outbox(daemon)["entries"] == 0)
        daemon.stop()
    assert len(ids) > 100
    assert oracle.letters == {}


@pytest.mark.hostile("E9 a session that the broker has lost")
def test_the_broker_of_results_comes_and_goes(box: Path) -> None:
    with (
        Mosquitto(box / "first") as first,
        Mosquitto(box / "second", persistent=True) as second,
        running(box, body(first, second)) as daemon,
    ):
        wait_for(lambda: is_up(daemon))
        sender = Sender(first)
        sender.start()
        ids: set[str] = set()
        # 3.1.1 and a session that is kept, so that nothing is missed while the broker is away.
        kept = {"version": 4, "client_id": "listener", "clean_session": False}
        with Device(second, "out/#", **kept) as listener:
            for _ in range(2):  # a third so soon would be taken for a broker that throws us out
                time.sleep(0.4)
                second.restart()
            ids = sender.finish()
            heard: set[str] = set()

            def is_all() -> bool:
                while not listener.inbox.empty():
                    heard.add(listener.inbox.get().topic.rpartition("/")[2])
                return ids <= heard

            wait_for(is_all, 60)
        wait_for(lambda: outbox(daemon)["entries"] == 0)
        assert outbox(daemon)["dropped"] == outbox(daemon)["refused"] == 0


@pytest.mark.slow
@pytest.mark.hostile("E12 an outbox at its cap")
def test_a_full_outbox_leaves_requests_with_their_broker(box: Path) -> None:
    second = Mosquitto(box / "second")
    config = ", outbox: {max_bytes: 1MiB}"
    with (
        Mosquitto(box / "first") as first,
        Device(first) as device,
        running(box, body(first, second, outbox=config)) as daemon,
    ):
        wait_for(lambda: is_up(daemon))
        ids = ask(device, range(4500))
        wait_for(lambda: outbox(daemon)["waiting"] > 0, 60)
        assert "outbox is full" in daemon.status()["degradations"]["mqtt.results"]
        assert outbox(daemon)["waiting"] <= 64, "max_inflight"
        assert outbox(daemon)["bytes"] <= 1 << 20
        with second, Oracle(second) as oracle:
            oracle.wait_for(ids, 90)
            wait_for(lambda: outbox(daemon)["entries"] == 0)
        assert outbox(daemon)["dropped"] == 0
    assert oracle.more_than_one() == {}


def test_latest_only(box: Path) -> None:
    second = Mosquitto(box / "second")
    with Mosquitto(box / "first") as first, Device(first) as device:
        text = body(first, second, ", when_full: latest_only")
        with running(box, text) as daemon:
            wait_for(lambda: is_up(daemon))
            for number in range(50):
                device.publish(f"in/{number % 2}", json.dumps([[number, 0, 0, 0]]))
            wait_for(lambda: outbox(daemon)["kept"] == 50)
            assert outbox(daemon)["entries"] == 2
            with second, Device(second, "out/#") as listener:
                heard = sorted((one.topic, one.payload) for one in listener.get(2))
                wait_for(lambda: outbox(daemon)["delivered"] == 2)
                assert [topic for topic, _ in heard] == ["out/0", "out/1"]
                assert [b"96.0" in heard[0][1], b"98.0" in heard[1][1]] == [True, True]
            assert outbox(daemon)["superseded"] == 48


def test_the_section_comes_and_goes_while_messages_flow(box: Path) -> None:
    with (
        Mosquitto(box / "first") as first,
        Mosquitto(box / "second") as second,
        Oracle(first) as here,
        Oracle(second) as there,
        running(box, body(first, None)) as daemon,
    ):
        wait_for(lambda: is_up(daemon))
        sender = Sender(first)
        sender.start()
        for number in range(6):
            daemon.write(body(first, second if number % 2 == 0 else None))
            time.sleep(0.3)
        ids = sender.finish()
        wait_for(lambda: ids <= here.hear() | there.hear(), 30)
        assert here.results
        assert there.results


def test_what_is_left_is_said(box: Path) -> None:
    second = Mosquitto(box / "second")
    with (
        Mosquitto(box / "first") as first,
        Device(first) as device,
        running(box, body(first, second)) as daemon,
    ):
        wait_for(lambda: is_up(daemon))
        ask(device, range(3))
        wait_for(lambda: outbox(daemon)["kept"] == 3)
        assert left_on_disk(daemon.directory / "state")
        daemon.write(body(first, None))
        wait_for(lambda: "configure mqtt.results, or" in daemon.tail())
        assert "mqtt.results" not in daemon.status()["degradations"]


@pytest.mark.slow
def test_answers_over_the_socket_are_published_through_outages_and_kills(box: Path) -> None:
    """Over the daemon's own connection; the caller waits for nothing."""
    broker = Mosquitto(box / "first", persistent=True)
    text = body(broker, None).replace(
        "{bundle: m-1.edgb}", "{bundle: m-1.edgb, publish: {to: fed}}"
    )
    tensor = np.ones((1, 4), np.float32)
    with running(box, text) as daemon:
        with daemon.client() as client:
            for number in range(20):
                client.infer("m", x=tensor * number)
            call = client.prepare("m", x=((1, 4), "float32"))
            for number in range(20, 40):
                call(tensor * number)
        wait_for(lambda: outbox(daemon)["entries"] == 40)
        assert daemon.status()["mqtt"]["feeds"]["m"]["published"] == 40
        daemon.kill()
        daemon.start()
        wait_for(lambda: outbox(daemon)["entries"] == 40)
        with broker, Device(broker, "fed", "out/#", "edged/test/status") as device:
            wait_for(lambda: outbox(daemon)["entries"] == 0)
            found = [device.one() for _ in range(41)]
            fed = [json.loads(one.payload)["y"][0] for one in found if one.topic == "fed"]
            assert fed == [2.0 * number for number in range(40)], "in order, and none lost"
            device.publish("in/1", b"[[1, 2, 3, 4]]")
            assert device.one().topic == "out/1", "what a message asked for is not fed"
            # A rule that goes takes the outbox along; the broker's session goes on.
            daemon.write(body(broker, None))
            wait_for(lambda: daemon.status()["mqtt"] and not daemon.status()["mqtt"]["feeds"])
            wait_for(lambda: is_up(daemon))
            with daemon.client() as client:
                client.infer("m", x=tensor)
            device.publish("in/1", b"[[1, 2, 3, 4]]")
            while device.one().topic != "out/1":
                pass
