"""Every QoS 1 message ends as one result or one dead letter, whatever else happens."""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from edged.manifest import TensorEntry
from tests.bundles import make_bundle
from tests.e2e.models import slow
from tests.e2e.oracle import Oracle, Sender
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.fakes.broker import Device, Mosquitto
from tests.fakes.proxy import Proxy
from tests.models import TinyModel, double, onnx_bytes

pytestmark = pytest.mark.broker

BINDING = "  - {name: b, from: 'in/{id}', to: 'out/{id}', model: m, codec: json}\n"
MODELS = "  m: {bundle: m-1.edgb}\n"


CLIENTS = pytest.mark.parametrize("client", ["paho", "native"])


def body(port: int, models: str = MODELS, bindings: str = BINDING, mqtt: str = "") -> str:
    return (
        "trust: {require_signatures: false}\nreload: {settle: 20ms, poll: 300ms}\n"
        f"mqtt: {{host: 127.0.0.1, port: {port}{mqtt}}}\n"
        f"models:\n{models}bindings:\n{bindings}"
    )


def connected(daemon: DaemonProcess) -> None:
    wait_for(lambda: daemon.status()["mqtt"]["state"] == "connected")


def picky() -> TinyModel:
    """Looks up a table of ten; an index beyond it makes the run fail, and the batch with it."""
    x = TensorEntry("x", "int64", ("batch",))
    y = TensorEntry("y", "float32", ("batch",))
    table = np.arange(10, dtype="float32")
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    return TinyModel(
        "picky",
        onnx_bytes([node], [x], [y], {"table": table}),
        (x,),
        (y,),
        lambda inputs: {"y": table[inputs["x"]]},
        lambda rows: {"x": np.arange(rows, dtype="int64") % 10},
    )


@pytest.fixture
def box(tmp_path: Path) -> Path:
    for release in (1, 2):
        model = double(factor=release + 1)
        make_bundle(tmp_path / f"m-{release}.edgb", model, name="m", release=release)
    return tmp_path


def test_edits_every_hundred_milliseconds(box: Path) -> None:
    """Models swapped, bindings added, renamed and re-targeted, the session made anew."""
    rng = random.Random(1)
    mqtt = ["", "", "", "", ", max_inflight: 20", ", client: native"]

    def edit(port: int) -> str:
        name, to = rng.choice(["b", "bb", "c"]), rng.choice(["out/{id}", "out/x/{id}"])
        bindings = BINDING.replace("name: b", f"name: {name}").replace("out/{id}", to)
        if rng.random() < 0.4:
            bindings += BINDING.replace("name: b", "name: other").replace("in/", "else/")
        models = MODELS.replace("m-1", rng.choice(["m-1", "m-2"]))
        return body(port, models, bindings, rng.choice(mqtt))

    with Mosquitto(box) as broker, Oracle(broker) as oracle:
        with running(box, edit(broker.port)) as daemon:
            connected(daemon)
            before = daemon.status()["generation"]
            sender = Sender(broker)
            sender.start()
            edits = 0
            while edits < 40 or daemon.status()["generation"] - before < 20:
                assert edits < 600, daemon.status()["config"]
                daemon.write(edit(broker.port))
                edits += 1
                time.sleep(0.1)
            ids = sender.finish()
            oracle.wait_for(ids)
        assert len(ids) > 200
        assert (oracle.letters, oracle.more_than_one()) == ({}, {})


@CLIENTS
def test_poisonous_inputs_take_nobody_with_them(box: Path, client: str) -> None:
    """Inputs at which the runtime fails share batches with good ones."""
    make_bundle(box / "p-1.edgb", picky(), name="p", release=1)
    bindings = BINDING.replace("model: m", "model: p")
    good, bad = set(), set()
    with Mosquitto(box) as broker, Oracle(broker) as oracle:
        models = "  p: {bundle: p-1.edgb, queue: {max_rows: 32}}\n"
        text = body(broker.port, models, bindings, f", client: {client}")
        with running(box, text) as daemon, Device(broker) as device:
            connected(daemon)
            for number in range(300):
                is_bad = number % 7 == 3
                (bad if is_bad else good).add(str(number))
                payload = json.dumps([99 if is_bad else number % 10])
                device.publish(f"in/{number}", payload, wait=number % 40 == 39)
            oracle.wait_for(good | bad)
    assert set(oracle.results) == good
    assert set(oracle.letters) == bad
    assert oracle.more_than_one() == {}


def test_messages_of_a_model_that_is_broken_at_boot(box: Path) -> None:
    """They are not acknowledged as nobody's, and the broker goes on keeping more of them."""
    with Mosquitto(box) as broker, Oracle(broker) as oracle, Device(broker) as device:

        def send(numbers: range) -> None:
            for number in numbers:
                device.publish(f"in/{number}", json.dumps([[number, 1, 2, 3]]))

        with running(box, body(broker.port)) as daemon:
            connected(daemon)
        send(range(20))
        good = (box / "m-1.edgb").read_bytes()
        (box / "m-1.edgb").unlink()
        shutil.rmtree(box / "state/store")
        with running(box, body(broker.port)) as daemon:
            connected(daemon)
            assert "binding.b" in daemon.status()["degradations"]
            send(range(20, 40))
            (box / "m-1.edgb").write_bytes(good)
            wait_for(lambda: daemon.status()["degradations"] == {})
            send(range(40, 60))
            oracle.wait_for({str(number) for number in range(60)})
            assert daemon.status()["mqtt"]["unmatched"] == 0
    assert set(map(str, range(40, 60))) <= set(oracle.results)
    assert oracle.more_than_one() == {}


def test_a_broken_model_does_not_hold_up_the_others(box: Path) -> None:
    """More messages than the session has places wait for a model that will not come."""
    bindings = BINDING + BINDING.replace("name: b", "name: lost").replace(
        "'in/{id}'", "'lost/{id}'"
    ).replace("model: m", "model: lost")
    models = MODELS + "  lost: {bundle: nowhere.edgb}\n"
    with Mosquitto(box) as broker, Oracle(broker) as oracle, Device(broker) as device:
        text = body(broker.port, models, bindings, ", max_inflight: 10")
        with running(box, text) as daemon:
            connected(daemon)
            for number in range(60):
                device.publish(f"lost/x{number}", "[[1, 2, 3, 4]]", wait=False)
                device.publish(f"in/{number}", "[[1, 2, 3, 4]]")
            oracle.wait_for({str(number) for number in range(60)}, 5)
            # The binding's own time is ten seconds; then the last ones are told too.
            oracle.wait_for({f"x{number}" for number in range(60)}, 20)
    assert {code for codes in oracle.letters.values() for code in codes} == {"UNAVAILABLE"}
    assert oracle.more_than_one() == {}


@CLIENTS
@pytest.mark.slow
def test_connection_cut_at_random(box: Path, client: str) -> None:
    rng = random.Random(2)
    make_bundle(box / "m-1.edgb", slow(300, 4), name="m", release=1)
    with (
        Mosquitto(box) as broker,
        Oracle(broker) as oracle,
        Proxy(broker.port) as proxy,
        running(box, body(proxy.port, mqtt=f", client: {client}")) as daemon,
    ):
        connected(daemon)
        sender = Sender(broker)
        sender.start()
        until = time.monotonic() + 10
        while time.monotonic() < until:
            time.sleep(rng.uniform(0.1, 1))
            proxy.cut()
        oracle.wait_for(sender.finish(), 70)
    assert oracle.letters == {}


@CLIENTS
@pytest.mark.slow
def test_restarts_under_load(box: Path, client: str) -> None:
    """SIGTERM drains: nothing is lost, and nothing is answered twice."""
    rng = random.Random(4)
    make_bundle(box / "m-1.edgb", slow(300, 4), name="m", release=1)
    daemon = DaemonProcess(box)
    config = "max_inflight_messages 200"
    with Mosquitto(box, config) as broker, Oracle(broker) as oracle:
        daemon.write(body(broker.port, mqtt=f", max_inflight: 200, client: {client}"))
        daemon.start()
        try:
            connected(daemon)
            sender = Sender(broker, 0.003)
            sender.start()
            for _ in range(4):
                time.sleep(rng.uniform(0.3, 1.5))
                assert daemon.stop() == 0
                daemon.start()
            oracle.wait_for(sender.finish(), 40)
        finally:
            daemon.stop()
    assert (oracle.letters, oracle.more_than_one()) == ({}, {})
