"""TensorRT where its libraries are: build, look, run, compare, and refuse what is not for here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from benchmarks import figures
from benchmarks.gpu_onnxruntime import artefact, difference, images, times_ms
from benchmarks.results import Row, measured
from edged.errors import EdgedError
from edged.runtimes.base import Artefact
from edged.runtimes.engine import BuildOptions, Engine, Host, sha256
from edged.runtimes.onnxruntime import OnnxRuntime
from edged.runtimes.tensorrt import TensorRtRuntime
from edged.runtimes.tensorrt_build import Built, build_engine
from edged.runtimes.tensorrt_session import TensorRtSession

BATCHES = (1, 8, 32)
PARITY = {"fp32": 1e-3, "fp16": 2e-2}
"""Relative to the largest output. Half precision has ten bits, and fifty layers add them up."""
THREADS, SECONDS = 4, 1.5
ROWS = [
    *((f"tensorrt-build-{kind}", "s", "") for kind in PARITY),
    *((f"tensorrt-parity-{kind}", "relative", f"<= {bar}") for kind, bar in PARITY.items()),
    ("tensorrt-precision-fp16", "layers", ">= 1"),
    ("tensorrt-rebuild", "x", ""),
    *((f"tensorrt-latency-{kind}-{batch}", "ms", "") for kind in PARITY for batch in BATCHES),
    ("tensorrt-streams-wrong", "runs", "== 0"),
    ("tensorrt-wrong-taken", "engines", "== 0"),
]


def check(rows: list[Row]) -> None:
    """Everything; what fails on the way leaves the rows after it not measured, with the reason."""
    runtime = TensorRtRuntime(lanes=THREADS)
    trt, _ = runtime.open()
    host = runtime.host()
    cpu = OnnxRuntime(threads=0).load(artefact())
    models = {"fp32": artefact(), "fp16": replace(artefact(), data=_half(artefact().data))}
    built: dict[str, Built] = {}
    for kind, model in models.items():
        options = BuildOptions(max_batch=max(BATCHES), usual_batch=8)
        built[kind] = made = build_engine(trt, host, model, options)
        print_of = msgspec.to_builtins(made.engine.fingerprint)
        rows.append(measured(f"tensorrt-build-{kind}", print_of["seconds"], "s", "", print_of))
        session = runtime.load(replace(model, data=made.engine.encode()))
        rows.extend(_numbers(kind, session, cpu))
        if kind == "fp32":
            rows.append(_streams(session))
        session.close()
    halves = built["fp16"].engine.fingerprint.built.get("HALF", 0)
    layers = built["fp16"].engine.fingerprint.built
    rows.append(measured("tensorrt-precision-fp16", halves, "layers", ">= 1", layers))
    began = time.monotonic()
    build_engine(trt, host, models["fp32"], BuildOptions(), built["fp32"].timing_cache)
    taken = time.monotonic() - began
    first = built["fp32"].engine.fingerprint.seconds
    cache = {"timing_cache_bytes": len(built["fp32"].timing_cache), "again_s": taken}
    rows.append(measured("tensorrt-rebuild", taken / max(first, 1e-3), "x", "", cache))
    rows.append(_wrong_ones(runtime, models["fp32"], built["fp32"].engine))


def _half(data: bytes) -> bytes:
    """The model in half precision, with inputs and outputs as they were."""
    import onnx  # noqa: PLC0415
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415

    made = convert_float_to_float16(onnx.load_from_string(data), keep_io_types=True)
    # The casts of the inputs come last in what it makes; a file has each node after its inputs.
    nodes = sorted(made.graph.node, key=lambda node: node.op_type != "Cast" or node.input[0] != "x")
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    done: bytes = made.SerializeToString()
    return done


def _numbers(kind: str, session: TensorRtSession, cpu: Any) -> list[Row]:
    # The third run of a shape and those after it are CUDA graphs.
    parity = {
        b: max(difference(session.run(images(b))["y"], cpu.run(images(b))["y"]) for _ in range(4))
        for b in BATCHES
    }
    bar = f"<= {PARITY[kind]}"
    worst = max(parity.values())
    rows = [measured(f"tensorrt-parity-{kind}", worst, "relative", bar, {"by_batch": parity})]
    for batch in BATCHES:
        taken = times_ms(session, images(batch))
        p50 = figures.median(taken)
        raw = {"p99": figures.percentile(taken, 0.99), "items_per_s": batch / p50 * 1e3}
        rows.append(measured(f"tensorrt-latency-{kind}-{batch}", p50, "ms", "", raw))
    return rows


def _streams(session: TensorRtSession) -> Row:
    """Several threads on one session, each with an answer to hold its own to."""
    inputs = [images(1, seed) for seed in range(THREADS)]
    wanted = [session.run(one)["y"] for one in inputs]
    wrong, counts = [0], [0] * THREADS
    until = time.monotonic() + SECONDS

    def work(index: int) -> None:
        while time.monotonic() < until:
            got = session.run(inputs[index])["y"]
            wrong[0] += difference(got, wanted[index]) > PARITY["fp32"]
            counts[index] += 1

    workers = [threading.Thread(target=work, args=(index,)) for index in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    raw = {"runs": counts, "runs_per_s": sum(counts) / SECONDS}
    return measured("tensorrt-streams-wrong", wrong[0], "runs", "== 0", raw)


def _wrong_ones(runtime: TensorRtRuntime, model: Artefact, engine: Engine) -> Row:
    """Engines of elsewhere and broken ones: how many were taken, and the words of each refusal."""
    made = engine.fingerprint
    tries: dict[str, Callable[[], Engine]] = {
        **{
            name: lambda name=name: replace_host(engine, name)  # type: ignore[misc]
            for name in Host.__struct_fields__
        },
        "plan cut short": lambda: replan(engine, engine.plan[: len(engine.plan) // 2]),
        "plan of zeros": lambda: replan(engine, bytes(made.plan_bytes)),
    }
    words: dict[str, str] = {}
    taken = 0
    for name, make in tries.items():
        try:
            runtime.load(replace(model, data=make().encode())).close()
            taken += 1
        except EdgedError as exc:
            words[name] = exc.message
    return measured("tensorrt-wrong-taken", taken, "engines", "== 0", words)


def replace_host(engine: Engine, name: str) -> Engine:
    """The same engine, as if built where one thing is different."""
    value = getattr(engine.fingerprint.host, name)
    other = value + 1 if isinstance(value, int) else f"{value}x"
    host = msgspec.structs.replace(engine.fingerprint.host, **{name: other})
    return Engine(msgspec.structs.replace(engine.fingerprint, host=host), engine.plan)


def replan(engine: Engine, plan: bytes) -> Engine:
    """Another plan under a fingerprint that vouches for it: only TensorRT can tell."""
    changed = msgspec.structs.replace(
        engine.fingerprint, plan_sha256=sha256(plan), plan_bytes=len(plan)
    )
    return Engine(changed, plan)
