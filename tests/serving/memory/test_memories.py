"""Each device has its memory; whoever is on one without any takes the host's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from edged.config.schema import ModelConfig
from edged.serving.memory.footprint import PROCESS_BYTES
from edged.serving.memory.memories import NO_BUDGET, Memories
from edged.serving.memory.residency import Ends
from tests.fakes.clock import on_loop, until
from tests.fakes.loader import make_loader
from tests.serving.memory.test_residency import House, Sized, want

HOST = ModelConfig(bundle="b")
GPU = ModelConfig(bundle="b", runtime=("onnxruntime-cuda", "onnxruntime"))


@pytest.fixture
def make() -> Any:
    thread = ThreadPoolExecutor(1)
    nothing = Ends(lambda *_: None, lambda *_: None, lambda *_: None)
    loader = make_loader(lambda _: Sized())
    yield lambda budgets: Memories(loader, thread, budgets, nothing, list)
    thread.shutdown()


def test_by_the_first_runtime(make: Any):
    memories = make({"cpu": 10, "cuda": 20})
    assert memories.of(HOST).ledger.budget == 10
    assert memories.of(GPU).ledger.budget == 20
    assert [device for device, _ in memories.items()] == ["cpu", "cuda"]


def test_a_device_without_memory_of_its_own(make: Any):
    memories = make({"cpu": 10})
    assert memories.of(GPU) is memories.of(HOST)
    memories.set_budgets({"cpu": 5, "cuda": 7})
    assert memories.of(GPU).ledger.budget == 5, "after a restart it may have its own"
    assert memories.as_dict() == {
        "cpu": {"budget_bytes": 5, "promised_bytes": 0, "waiting_loads": 0}
    }


SHARED = ModelConfig(bundle="b", isolation="device")
SHARED_GPU = ModelConfig(bundle="b", isolation="device", runtime=("onnxruntime-cuda",))


def test_a_shared_process_is_counted_once(make: Any):
    """However many models are in it; and no more when none is."""
    total, aside = 5 * PROCESS_BYTES, PROCESS_BYTES
    memories = make({"cpu": total, "cuda": total})
    of = {device: home.ledger for device, home in memories.items()}
    for configs, host, gpu in (
        ([HOST, GPU], 0, 0),
        ([SHARED, SHARED, SHARED_GPU], 1, 1),
        ([SHARED, HOST], 1, 0),
        ([], 0, 0),
    ):
        memories.host(configs)
        assert of["cpu"].budget == total - host * aside
        assert of["cuda"].budget == total - gpu * aside
        told = memories.as_dict()["cpu"]
        assert (told["budget_bytes"], told["promised_bytes"]) == (total, host * aside)
    memories.host([SHARED])
    memories.set_budgets({"cpu": aside // 2})
    assert of["cpu"].budget == 0
    assert of["cuda"].budget == total


def test_two_devices_with_one_memory(make: Any):
    memories = make({"cpu": 5 * PROCESS_BYTES})
    memories.host([SHARED, SHARED_GPU])
    assert memories.of(HOST).ledger.budget == 3 * PROCESS_BYTES


def test_nobody_knows(make: Any):
    assert make({}).of(HOST).ledger.budget == NO_BUDGET


@on_loop
async def test_one_device_evicts_nobody_on_the_other():
    house = House(10)
    try:
        house.manager.memories = memories = Memories(
            house.manager.loader, house.manager._thread, {"cpu": 10, "cuda": 10},
            Ends(house.manager._ready, house.manager._asleep, house.manager._load_failed),
            house.manager._releases.values,
        )  # fmt: skip
        here, there = want("a"), want("b")
        there = type(there)(there.digest, there.stored, GPU)
        await house.serve(here, there)
        asked = [house.ask("a"), house.ask("b")]
        await until(lambda: all(one.responses for one in asked))
        assert all(one.is_right for one in asked)
        assert house.inside() == {"a1", "b1"}
        assert [home.ledger.used for _, home in memories.items()] == [10, 10]
        assert memories.ready_in_ns(house.release("b").key) > 0
    finally:
        house.end()
