"""Each device has its memory; whoever is on one without any takes the host's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from edged.config.schema import ModelConfig
from edged.serving.memories import NO_BUDGET, Memories
from edged.serving.residency import Ends
from tests.fakes.clock import on_loop, until
from tests.fakes.loader import make_loader
from tests.serving.test_residency import House, Sized, want

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
