"""What any publisher that the broker lets through may send: each message ends, the others go on."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from tests.bundles import make_bundle
from tests.e2e.oracle import Oracle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.fakes.broker import Device, Mosquitto
from tests.models import double

pytestmark = pytest.mark.broker

GOOD = "[[1, 2, 3, 4]]"
LARGE = 5_000_000
PAYLOADS = [
    b"",
    b"\x00",
    b"\xff\xfe\xfd",
    b"[[1,2,3",
    b"[" * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b"1" * 6000,
    b"[[NaN,1,2,3]]",
    b"[[1e999,1,2,3]]",
    b"null",
    b'[[true,"a",null,{}]]',
    b"[[1,2,3,4]][[1,2,3,4]]",
    b'{"x":1,"x":2}',
    b'"\xed\xa0\x80"',
    b" " * LARGE,
    os.urandom(LARGE),
    b"[" + b"[1,2,3,4]," * 400_000 + b"[1,2,3,4]]",
]
RESPONSE_TOPICS = [
    "in/loop",  # read by a binding
    "edged/test/status",  # our own
    "edged/test/error/b",
    "re/+",
    "#",
    "$SYS/broker/version",
    "re/" + "x" * 60_000,
]
BINDINGS = "\n".join(
    f"  - {{name: {name}, from: '{name}/{{id}}', to: 'out/{{id}}', model: m, codec: {codec}}}"
    for name, codec in (("in", "json"), ("raw", "raw"))
)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "m-1.edgb", double(), name="m", release=1)
    return tmp_path


def body(port: int) -> str:
    return (
        f"trust: {{require_signatures: false}}\nmqtt: {{host: 127.0.0.1, port: {port}}}\n"
        f"models:\n  m: {{bundle: m-1.edgb}}\nbindings:\n{BINDINGS}\n"
    )


def connected(daemon: DaemonProcess) -> None:
    wait_for(lambda: daemon.status()["mqtt"]["state"] == "connected")


@pytest.mark.hostile("E1 a payload that is empty, noise or cut short")
def test_payloads_of_every_kind(box: Path) -> None:
    ids = {"last"}
    with (
        Mosquitto(box) as broker,
        Oracle(broker) as oracle,
        Device(broker) as device,
        running(box, body(broker.port)) as daemon,
    ):
        connected(daemon)
        assert daemon.process is not None
        process = psutil.Process(daemon.process.pid)
        before = process.memory_info().rss
        for number, payload in enumerate(PAYLOADS):
            for binding in ("in", "raw"):
                device.publish(f"{binding}/{binding}{number}", payload)
                ids.add(f"{binding}{number}")
        device.publish("in/last", GOOD)
        oracle.wait_for(ids)
        assert daemon.status()["mqtt"]["connections"] == 1
        assert "Traceback" not in daemon.log.read_text()
        assert process.memory_info().rss - before < 50 * LARGE
    assert oracle.results["last"] == 1
    assert oracle.more_than_one() == {}


def test_response_topics_of_every_kind(box: Path) -> None:
    """None of them reaches a topic of ours, comes back as a request, or costs the connection."""
    with (
        Mosquitto(box) as broker,
        Oracle(broker, "out/#", "re/#") as oracle,
        Device(broker) as device,
        running(box, body(broker.port)) as daemon,
    ):
        connected(daemon)
        for number, topic in enumerate(RESPONSE_TOPICS):
            device.publish(f"in/{number}", GOOD, ResponseTopic=topic)
        device.publish("in/last", GOOD, ResponseTopic="re/ok", CorrelationData=b"c" * 60_000)
        bad = {str(number) for number in range(len(RESPONSE_TOPICS))}
        oracle.wait_for({*bad, "ok"})
        assert daemon.status()["mqtt"]["connections"] == 1
    assert set(oracle.letters) == bad
    assert oracle.results == {"ok": 1}
    assert oracle.more_than_one() == {}


def test_topics_of_every_kind(box: Path) -> None:
    good, bad = {"", " ", "$SYS", "last"}, {"é" * 1000, "z" * 60_000}
    with (
        Mosquitto(box) as broker,
        Oracle(broker) as oracle,
        Device(broker) as device,
        running(box, body(broker.port)) as daemon,
    ):
        connected(daemon)
        for name in sorted(good | bad):
            device.publish(f"in/{name}", GOOD)
        oracle.wait_for(good | bad)
    assert (set(oracle.results), set(oracle.letters)) == (good, bad)
    assert oracle.more_than_one() == {}
