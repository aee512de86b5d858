"""Figures under Triton's names, as its dashboards ask for them."""

from __future__ import annotations

import asyncio
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from edged.errors import Code
from edged.figures.triton import FIGURES, triton_families
from edged.telemetry.exposition import render
from tests.fakes.clock import on_loop
from tests.pages.test_oip import release

_ORDER = ("model", "version", "reason")


def told(*releases: Any) -> dict[tuple[str, ...], float]:
    text, _ = asyncio.run(render(triton_families(releases)))
    return {
        (sample.name, *(sample.labels[key] for key in _ORDER if key in sample.labels)): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def counted(number: int = 1) -> Any:
    made: list[Any] = []

    @on_loop
    async def work() -> None:
        made.append(release(number))

    work()
    counters = made[0].counters
    counters.ran(2_000_000, 3)
    for origin, error in (("uds:1", None), ("http:1", None)):
        counters.waited(1_000_000)
        counters.answered(origin, error, 5_000_000)
    return made[0]


def test_counts_and_times() -> None:
    one = counted()
    one.counters.failed = {Code.RESOURCE_EXHAUSTED: 1, Code.UNAVAILABLE: 2, Code.NOT_FOUND: 4}
    one.counters.durations[0] += 7
    found = told(one)
    assert found["nv_inference_request_success", "gate", "1"] == 2
    assert found["nv_inference_request_failure", "gate", "1", "REJECTED"] == 3
    assert found["nv_inference_request_failure", "gate", "1", "OTHER"] == 4
    assert found["nv_inference_count", "gate", "1"] == 3
    assert found["nv_inference_exec_count", "gate", "1"] == 1
    assert found["nv_inference_request_duration_us", "gate", "1"] == 10_000
    assert found["nv_inference_queue_duration_us", "gate", "1"] == 2000
    assert found["nv_inference_compute_infer_duration_us", "gate", "1"] == 2000
    assert found["nv_inference_pending_request_count", "gate", "1"] == 0
    assert not [name for name, *_ in found if "cache" in name]


def test_a_release_that_is_there_twice_is_one_series() -> None:
    assert told(counted(), counted())["nv_inference_count", "gate", "1"] == 6
    assert told(counted(1), counted(2))["nv_inference_count", "gate", "2"] == 3


def test_nothing() -> None:
    assert told() == {}
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)
