"""Three tiny models as one pipeline, through ``serving/`` without a transport, against the runs."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import figures, raw
from benchmarks.models import Arrays, unpack
from benchmarks.results import Row, measured
from benchmarks.stand import BenchError, Stand, load_average
from edged.config.pipeline import PipelineConfig, StepConfig
from edged.config.schema import ModelConfig
from edged.messages import InferRequest, InferResponse
from edged.pipelines.pipeline import PipelineRelease
from edged.pipelines.plan import plan_pipeline
from edged.runtimes.base import Artefact
from edged.runtimes.registry import create_runtime
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.lifecycle import Event, ReleaseKey
from edged.serving.release import ServedRelease
from edged.serving.router import Route
from edged.serving.scheduling.turn import Turn
from edged.serving.workshop import Workshop
from edged.store.bundle import read_manifest

ROUNDS = 7
ROUND_S = 0.7
COUNT = 3


def chain(stand: Stand) -> list[Row]:
    """p50 from ``submit`` to the answer ÷ the sum of the p50 of the runs; one model likewise."""
    model = stand.tiny(COUNT)
    paths = [unpack(path, path.parent) for path in model.bundles.values()]
    sessions = [raw.open_session(path, 1) for path in paths]
    inputs = model.request(0)
    loop = uvloop.new_event_loop()
    try:
        plane = loop.run_until_complete(_door(list(model.bundles.values()), paths))
        _check(loop, plane, inputs, sessions)
        whole, single, sums, first = [], [], [], []
        for _ in range(ROUNDS):
            runs = [raw.p50_us(session, inputs, ROUND_S * stand.scale / 3) for session in sessions]
            sums.append(sum(runs))
            first.append(runs[0])
            whole.append(loop.run_until_complete(_p50_us(plane, "all", inputs, ROUND_S)))
            single.append(loop.run_until_complete(_p50_us(plane, "m0", inputs, ROUND_S / 2)))
    finally:
        loop.close()
    load = {"load_average": load_average()}
    details = {"pipeline_p50_us": whole, "runs_p50_us": sums} | load
    alone = {"p50_us": single, "run_p50_us": first, "aim": 2.0} | load
    return [
        measured("pipeline", figures.paired_ratio(whole, sums), "x", "<= 2.2", details),
        measured("dispatch", figures.paired_ratio(single, first), "x", "<= 2.5", alone),
    ]


async def _door(bundles: list[Path], models: list[Path]) -> Dataplane:
    turn = Turn()
    routes, manifests = {}, {}
    for index, (bundle, file) in enumerate(zip(bundles, models, strict=True)):
        _, manifest, _ = read_manifest(bundle)
        name = f"m{index}"
        artefact = Artefact(
            name, file.read_bytes(), manifest.input_specs(), manifest.output_specs(), {}
        )
        session = create_runtime("onnxruntime", threads=1).load(artefact)
        key = ReleaseKey(name, name, "")
        release = ServedRelease(key, manifest, ModelConfig(bundle="-"), 200_000, turn)
        release.move(Event.LOAD)
        release.move(Event.LOADED)
        release.loaded(session, "onnxruntime", 10_000)
        release.move(Event.WARMED)
        routes[name], manifests[name] = Route(name, {1: release}), manifest
    output = manifests["m0"].output_specs()[-1].name
    steps = tuple(StepConfig(name=f"s{i}", model=f"m{i}", inputs="x") for i in range(len(models)))
    config = PipelineConfig(
        inputs={"x": "float32[batch,4]"},
        steps=steps,
        outputs={f"y{i}": f"s{i}.{output}" for i in range(len(models))},
    )
    plan, problems = plan_pipeline("all", config, lambda name, _: manifests[name], Path)
    if plan is None:
        raise BenchError(f"the pipeline cannot be planned: {problems}")
    pipeline = PipelineRelease(plan, routes, Workshop(turn), lambda _found: "not asked for")
    routes["all"] = Route("all", {1: pipeline})
    plane = Dataplane()
    plane.swap(ServingTable(1, routes))
    return plane


async def _ask(plane: Dataplane, model: str, inputs: Arrays) -> InferResponse:
    future: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()
    plane.submit(InferRequest(model, inputs), lambda response, _final: future.set_result(response))
    return await future


def _check(loop: Any, plane: Dataplane, inputs: Arrays, sessions: list[Any]) -> None:
    """A fast wrong answer is no result."""
    response = loop.run_until_complete(_ask(plane, "all", inputs))
    for index, session in enumerate(sessions):
        if not (response.outputs[f"y{index}"] == session.run(None, inputs)[-1]).all():
            raise BenchError(f"model {index} answered something else in the pipeline")


async def _p50_us(plane: Dataplane, model: str, inputs: Arrays, seconds: float) -> float:
    """From ``submit`` to the answer, one request after the other."""
    clock = time.perf_counter_ns
    done = asyncio.get_running_loop().create_future()
    times: list[float] = []
    until = clock() + int(seconds * 1e9)
    before = 0

    def answered(_response: InferResponse, _final: bool) -> None:
        now = clock()
        times.append((now - before) / 1000)
        if now < until:
            asyncio.get_running_loop().call_soon(ask)
        else:
            done.set_result(None)

    def ask() -> None:
        nonlocal before
        before = clock()
        plane.submit(InferRequest(model, inputs), answered)

    ask()
    await done
    return figures.median(times[len(times) // 10 :])
