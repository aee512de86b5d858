"""What a real broker says that it takes, against what the models make."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from edged.broker.link import BrokerLinks
from edged.config.binding import BindingConfig
from edged.config.load import Snapshot
from edged.config.mqtt import MqttConfig
from edged.config.schema import Config
from edged.specs import OutputSpec, Size
from edged.telemetry.health import Health
from tests.fakes.broker import Mosquitto
from tests.fakes.door import FakeDoor
from tests.fakes.manifests import make_manifest
from tests.transports.conftest import until

WIDE = make_manifest(
    [("x", "float32", ("batch", 2))], [("y", "float32", ("batch", 1000))], name="wide"
)
pytestmark = pytest.mark.broker


@pytest.mark.parametrize("client", ["native", "paho"])
@pytest.mark.parametrize("says", ["the broker", "the operator"])
def test_a_binding_that_can_never_answer(tmp_path: Path, client: Any, says: str) -> None:
    is_broker = says == "the broker"
    health = Health()
    door = FakeDoor({"wide": WIDE})

    def snapshot(codec: Any, port: int) -> Snapshot:
        mqtt = MqttConfig(
            host="127.0.0.1", port=port, client=client,
            max_packet_size=None if is_broker else Size(3000),
        )  # fmt: skip
        output = OutputSpec(codec=codec, top_k=1 if codec == "json" else 0)
        config = BindingConfig(name="b", from_="i", to="o", model="wide", output=output)
        return Snapshot(Config(node="test", mqtt=mqtt, bindings=(config,)), tmp_path, {})

    async def work(port: int) -> None:
        links = BrokerLinks(door, health, tmp_path)  # type: ignore[arg-type]
        first = snapshot("json", port)
        prepared = links.prepare(first, first.config.bindings, door.manifest)  # type: ignore[arg-type]
        await links.swap(first, prepared)
        await until(lambda: (links.stats() or {}).get("max_packet_bytes") == 3000)
        assert "mqtt.sizes" not in health.degradations()
        second = snapshot("raw", port)
        if is_broker:
            prepared = links.prepare(second, second.config.bindings, door.manifest)  # type: ignore[arg-type]
            await links.swap(second, prepared)
            assert (
                "binding b: an answer has at least 4000 bytes"
                in (health.degradations()["mqtt.sizes"])
            )
            await links.swap(first, links.prepare(first, first.config.bindings, door.manifest))  # type: ignore[arg-type]
        assert "mqtt.sizes" not in health.degradations()
        await links.drain(1)

    with Mosquitto(tmp_path, "max_packet_size 3000" if is_broker else "") as broker:
        asyncio.run(asyncio.wait_for(work(broker.port), 60))
