"""Recording: what is subscribed to, and what is said when the broker cannot be used."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edged.commands.capture import CaptureWriter
from edged.commands.recording import at_broker, filters_of, record
from edged.config.load import load
from edged.errors import DisconnectedError, InvalidRequestError
from tests.fakes.broker import Device, Mosquitto, free_port


def snapshot(*froms: str):
    bindings = [SimpleNamespace(from_=text, broker=None, join=()) for text in froms]
    return SimpleNamespace(config=SimpleNamespace(bindings=bindings, mqtt=None))


def test_a_recorder_is_no_member_of_a_group():
    found = filters_of(snapshot("$share/g/in/{id}", "in/{site}", "b/#"), [])
    assert found == ["in/+", "b/#"]
    assert filters_of(snapshot("in/{id}"), ["c/{x}"]) == ["c/+"]
    with pytest.raises(InvalidRequestError, match="--topic"):
        filters_of(snapshot(), [])


def written(tmp_path, port: int, more: str = "", lines: str = ""):
    (tmp_path / "edged.yaml").write_text(
        f"node: n\nmqtt: {{host: 127.0.0.1, port: {port}{more}}}\nmodels: {{}}\n{lines}"
    )
    return load(tmp_path / "edged.yaml")


def test_of_each_broker_what_its_bindings_read(tmp_path):
    """Joined topics too: without them a capture could not be replayed."""
    (tmp_path / "edged.yaml").write_text(
        "trust: {require_signatures: false}\nmqtt: {}\nbrokers: {plant: {host: p}, spare: {host: s}}\n"
        "models:\n  m: {bundle: m-1.edgb}\nbindings:\n"
        "  - {name: a, from: 'a/{id}', to: 'x/{id}', model: m}\n"
        "  - {name: b, from: 'b/{id}', to: 'y/{id}', model: m, broker: plant, fields: [u],\n"
        "     join: [{from: 'c/{id}', fields: [v]}]}\n"
    )
    found = load(tmp_path / "edged.yaml")
    assert filters_of(found, []) == ["a/+"]
    assert filters_of(found, [], "plant") == ["b/+", "c/+"]
    assert filters_of(found, ["q"], "spare") == ["q"]
    with pytest.raises(InvalidRequestError, match='read from "spare": name a topic by --topic'):
        filters_of(found, [], "spare")
    with pytest.raises(InvalidRequestError, match=r'"plan".*did you mean.*mqtt, plant, spare'):
        at_broker(found, "plan")


def run(found, path, seconds=10.0):
    with CaptureWriter(path, max_messages=1, max_bytes=10_000) as capture:
        record(found, ["in/#"], capture, seconds, lambda _: None)


def test_problems_are_said(tmp_path):
    with pytest.raises(InvalidRequestError, match="no broker"):
        run(snapshot(), tmp_path / "a")
    with pytest.raises(DisconnectedError, match="refused"):
        run(written(tmp_path, free_port()), tmp_path / "b")


@pytest.mark.broker
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_recorder_leaves_nothing_behind(tmp_path, protocol):
    """No session that the broker queues for, no word on the daemon's own topics; and it is the
    broker that was named."""
    with Mosquitto(tmp_path) as broker, Device(broker, "edged/#") as watch:
        words = f"{{host: 127.0.0.1, port: {broker.port}, protocol: '{protocol}'}}"
        found = written(tmp_path, free_port(), lines=f"brokers: {{plant: {words}}}\n")
        with CaptureWriter(tmp_path / "c", max_messages=1, max_bytes=10_000) as capture:

            def on_ready(_: str) -> None:
                with Device(broker) as device:
                    device.publish("in/1", b"x")

            record(at_broker(found, "plant"), ["in/#"], capture, 20.0, on_ready)
        assert capture.messages == 1
        watch.publish("edged/last", b"")
        assert watch.one().topic == "edged/last"
        log = broker.log.read_text()
    assert "edged-n-plant-record" in log
