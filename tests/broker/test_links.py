"""Lines beside one another: what comes and goes with a configuration, and whose health is whose."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from edged.broker.links import Brokers
from edged.config.binding import BindingConfig
from edged.config.broker_lines import Line
from edged.config.brokers import NamedBrokerConfig
from edged.config.load import Snapshot
from edged.config.mqtt import MqttConfig
from edged.config.schema import Config
from edged.errors import FieldError
from edged.specs import Duration
from edged.telemetry.health import Health
from edged.transports.bindings.binding_set import with_waiting
from tests.fakes.broker import Device, Mosquitto, free_port
from tests.fakes.door import SUM, FakeDoor
from tests.transports.conftest import until


def snapshot(root: Path, *bindings: BindingConfig, mqtt: bool = True) -> Snapshot:
    words: dict[str, Any] = {"host": "127.0.0.1", "port": free_port()}
    config = Config(
        node="test",
        mqtt=MqttConfig(**words, longest_pause=Duration(10**9)) if mqtt else None,
        brokers={"plant": NamedBrokerConfig(**words)} if mqtt else {},
        bindings=bindings,
    )
    return Snapshot(config, root, {})


def binding(name: str, **words: Any) -> BindingConfig:
    return BindingConfig(
        name=name, **{"from_": f"{name}/in", "to": f"{name}/out", "model": "sum"} | words
    )


def of(model: str, release: int | str | None = None) -> Any:
    return SUM


def test_lines_follow_the_configuration(tmp_path: Path) -> None:
    health = Health()

    async def work() -> None:
        brokers = Brokers(FakeDoor(), health, tmp_path)  # type: ignore[arg-type]
        brokers.announce({}, [])
        assert brokers.stats() is None
        first = snapshot(tmp_path, binding("a"), binding("b", broker="plant"))
        await brokers.swap(first, brokers.prepare(first, first.config.bindings, of))
        await until(lambda: {"mqtt", "brokers.plant"} <= health.degradations().keys())
        stats = brokers.stats()
        assert stats is not None
        assert [*stats["bindings"]] == ["a"]
        assert [*stats["brokers"]["plant"]["bindings"]] == ["b"]
        assert brokers.line() == "mqtt connecting, plant: mqtt connecting"
        assert (tmp_path / "brokers/plant").is_dir()

        second = snapshot(tmp_path, binding("a"), binding("b", results="plant"))
        await brokers.swap(second, brokers.prepare(second, second.config.bindings, of))
        stats = brokers.stats()
        assert stats is not None
        assert [*stats["brokers"]] == ["mqtt to plant"]
        await until(lambda: "brokers.mqtt to plant.results" in health.degradations())
        assert "brokers.plant" not in health.degradations()
        await brokers.refresh(second)

        third = snapshot(tmp_path, mqtt=False)
        await brokers.swap(third, brokers.prepare(third, (), of))
        assert brokers.stats() is None
        assert health.degradations() == {}
        await brokers.drain(0)
        await brokers.swap(first, None)
        assert brokers.stats() is None

    asyncio.run(asyncio.wait_for(work(), 60))


def test_a_binding_that_cannot_serve_is_named_by_its_place(tmp_path: Path) -> None:
    async def work() -> None:
        brokers = Brokers(FakeDoor(), Health(), tmp_path)  # type: ignore[arg-type]
        made = snapshot(
            tmp_path, binding("a"), binding("b"), binding("c", broker="plant", to="{x}")
        )
        with pytest.raises(FieldError) as caught:
            brokers.prepare(made, made.config.bindings, of)
        assert caught.value.path == "bindings[2].to"

    asyncio.run(work())


def test_a_line_without_a_folder_stops_no_other(tmp_path: Path) -> None:
    health = Health()
    (tmp_path / "brokers").write_text("no folder")

    async def work() -> None:
        brokers = Brokers(FakeDoor(), health, tmp_path)  # type: ignore[arg-type]
        made = snapshot(
            tmp_path, binding("b", broker="plant"), binding("c", results="plant"), binding("a")
        )
        await brokers.swap(made, brokers.prepare(made, made.config.bindings, of))
        assert "cannot be made: Not a directory" in health.degradations()["brokers.plant"]
        stats = brokers.stats()
        assert stats is not None
        assert [*stats["bindings"]] == ["a"]
        fewer = snapshot(tmp_path, binding("a"))
        await brokers.swap(fewer, brokers.prepare(fewer, fewer.config.bindings, of))
        assert "brokers.plant" not in health.degradations()
        (tmp_path / "brokers").unlink()
        await brokers.swap(made, brokers.prepare(made, made.config.bindings, of))
        stats = brokers.stats()
        assert stats is not None
        assert {*stats["brokers"]} == {"plant", "mqtt to plant"}
        await brokers.drain(0)

    asyncio.run(asyncio.wait_for(work(), 60))


def test_what_a_line_that_is_gone_has_not_delivered_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        brokers = Brokers(FakeDoor(), Health(), tmp_path)  # type: ignore[arg-type]
        left = tmp_path / "brokers/mqtt.to.plant/outbox"
        left.mkdir(parents=True)
        (left / "1.log").touch()
        made = snapshot(tmp_path, binding("a"))
        for _ in range(2):
            await brokers.swap(made, brokers.prepare(made, made.config.bindings, of))
        (said,) = [one for one in caplog.messages if "results are left" in one]
        assert "brokers/mqtt.to.plant" in said
        await brokers.drain(0)

    asyncio.run(asyncio.wait_for(work(), 60))


def test_nothing_is_opened_behind_the_end(tmp_path: Path) -> None:
    async def work() -> None:
        brokers = Brokers(FakeDoor(), Health(), tmp_path)  # type: ignore[arg-type]
        made = snapshot(tmp_path, binding("a"), binding("b", broker="plant"))
        prepared = brokers.prepare(made, made.config.bindings, of)
        swap = asyncio.create_task(brokers.swap(made, prepared))
        await asyncio.sleep(0)
        await brokers.drain(0)
        await swap
        assert brokers.stats() is None
        assert [one.stats() for one in brokers._lines.values()] == [None] * len(brokers._lines)

    asyncio.run(asyncio.wait_for(work(), 60))


def test_what_is_asked_for_while_lines_change_comes_behind_it(tmp_path: Path) -> None:
    """A model that becomes ready asks for its binding while a reload moves others."""

    async def work() -> None:
        brokers = Brokers(FakeDoor(), Health(), tmp_path)  # type: ignore[arg-type]
        made = snapshot(tmp_path, binding("a"), binding("b", results="plant"))
        await brokers.swap(made, brokers.prepare(made, made.config.bindings, of))
        fewer = snapshot(tmp_path, binding("a"), binding("b"))
        swaps = [
            brokers.swap(fewer, brokers.prepare(fewer, fewer.config.bindings, of)),
            brokers.swap(fewer, brokers.prepare(fewer, fewer.config.bindings, of)),
            brokers.refresh(fewer),
        ]
        await asyncio.gather(*swaps)
        stats = brokers.stats()
        assert stats is not None
        assert stats["brokers"] == {}
        assert [*stats["bindings"]] == ["a", "b"]
        await brokers.drain(0)

    asyncio.run(asyncio.wait_for(work(), 60))


@pytest.mark.broker
def test_a_line_that_is_on_its_way_out_when_the_daemon_stops_says_goodbye(tmp_path: Path) -> None:
    (tmp_path / "plant").mkdir()

    def at(port: int, *bindings: BindingConfig) -> Snapshot:
        made = snapshot(tmp_path, *bindings)
        made.config.brokers["plant"] = NamedBrokerConfig(host="127.0.0.1", port=port)
        return made

    async def work(plant: Mosquitto) -> None:
        door = FakeDoor(hold=True)
        brokers = Brokers(door, Health(), tmp_path)  # type: ignore[arg-type]
        made = at(plant.port, binding("a"), binding("b", broker="plant"))
        await brokers.swap(made, brokers.prepare(made, made.config.bindings, of))
        with Device(plant, "edged/test/status", "b/out") as device:
            (said,) = await asyncio.to_thread(device.get)
            assert said.payload == b"online"
            device.publish("b/in", b'{"a": 1, "b": 2}')
            await until(lambda: len(door.held) == 1)
            fewer = at(plant.port, binding("a"))
            prepared = brokers.prepare(fewer, fewer.config.bindings, of)
            reload = asyncio.create_task(brokers.swap(fewer, prepared))
            (said,) = await asyncio.to_thread(device.get)
            assert said.payload == b"draining"
            reload.cancel()  # as a daemon does that is told to stop
            drain = asyncio.create_task(brokers.drain(5))
            await asyncio.sleep(0.1)
            door.release_all()
            await drain
            found = await asyncio.to_thread(device.get, 2)
            assert [one.topic for one in found] == ["b/out", "edged/test/status"]
            assert found[1].payload == b"offline"
            assert brokers.stats() is None

    with Mosquitto(tmp_path / "plant") as plant:
        asyncio.run(asyncio.wait_for(work(plant), 60))


def test_no_answer_goes_where_another_line_of_the_broker_reads(tmp_path: Path) -> None:
    async def work() -> None:
        brokers = Brokers(FakeDoor(), Health(), tmp_path)  # type: ignore[arg-type]
        made = snapshot(
            tmp_path, binding("a"), binding("b", results="plant"), binding("c", broker="plant")
        )
        prepared = brokers.prepare(made, made.config.bindings, of)
        first, second = prepared[Line()], prepared[Line("mqtt", "plant")]
        assert first is not None
        assert second is not None
        for found in (first, second):
            for kept in (found, found.part(None), with_waiting(found, ()), found.after(found)):
                assert [kept.is_input(f"{name}/in") for name in "abc"] == [True, True, False]
        assert first.routes("b/in") == second.routes("a/in") == (), "each answers by its own way"

    asyncio.run(work())
