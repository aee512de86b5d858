"""Recording: what is subscribed to, and what is said when the broker cannot be used."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edged.commands.capture import CaptureWriter
from edged.commands.recording import filters_of, record
from edged.config.load import load
from edged.errors import DisconnectedError, InvalidRequestError
from tests.fakes.broker import Device, Mosquitto, free_port


def snapshot(*froms: str):
    bindings = [SimpleNamespace(from_=text) for text in froms]
    return SimpleNamespace(config=SimpleNamespace(bindings=bindings, mqtt=None))


def test_a_recorder_is_no_member_of_a_group():
    found = filters_of(snapshot("$share/g/in/{id}", "in/{site}", "b/#"), [])
    assert found == ["in/+", "b/#"]
    assert filters_of(snapshot("in/{id}"), ["c/{x}"]) == ["c/+"]
    with pytest.raises(InvalidRequestError, match="--topic"):
        filters_of(snapshot(), [])


def written(tmp_path, port: int, more: str = ""):
    (tmp_path / "edged.yaml").write_text(
        f"node: n\nmqtt: {{host: 127.0.0.1, port: {port}{more}}}\nmodels: {{}}\n"
    )
    return load(tmp_path / "edged.yaml")


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
    """No session that the broker queues for, and no word on the daemon's own topics."""
    with Mosquitto(tmp_path) as broker, Device(broker, "edged/#") as watch:
        found = written(tmp_path, broker.port, f", protocol: '{protocol}'")
        with CaptureWriter(tmp_path / "c", max_messages=1, max_bytes=10_000) as capture:

            def on_ready(_: str) -> None:
                with Device(broker) as device:
                    device.publish("in/1", b"x")

            record(found, ["in/#"], capture, 20.0, on_ready)
        assert capture.messages == 1
        watch.publish("edged/last", b"")
        assert watch.one().topic == "edged/last"
        log = broker.log.read_text()
    assert "edged-n-record" in log
