"""Models on a GPU through the daemon, beside the backend's own bound loop in this process.

``cnn`` sends 602 kB a picture through the socket, ``stack`` 64 bytes a row: the second shows what
the daemon costs, the first what pixels cost as well. Both sides take turns, so that what else the
machine does is in both; the loop's side is surveyed for its best way before.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import figures, models
from benchmarks.gpu_loops import EngineLoop, Loop, open_session, p50_ms, runs_per_s, ways
from benchmarks.results import Row, measured
from benchmarks.stand import BenchError, Daemon
from converters.pack import member, pack
from edged.manifest import ArtefactEntry, Golden, Manifest, TensorEntry, Tolerance
from edged.runtimes.base import Artefact
from edged.runtimes.engine import BuildOptions
from edged.runtimes.onnxruntime import OnnxRuntime
from edged.runtimes.onnxruntime_cuda import OnnxCudaRuntime
from edged.runtimes.onnxruntime_tensorrt import OnnxTensorRtRuntime
from edged.runtimes.tensorrt import TensorRtRuntime
from edged.runtimes.tensorrt_build import build_engine
from edged.store.golden import write_safetensors
from edged.tensors import Array

BATCHES = (8, 32)
CLIENTS = 4
ROUNDS, SECONDS = 3, 1.0
START_S = 150.0
"""CUDA, a trial in a worker and the golden samples, before it is ready."""
STACK_LAYERS = 40
_LATENCY, _RATE = "<= 1.15", ">= 0.95"


def rows_of(name: str) -> list[tuple[str, str, str]]:
    """The rows of one runtime."""
    return [
        row
        for model in ("cnn", "stack")
        for row in (
            (f"{name}-daemon-{model}-1", "x", _LATENCY),
            *((f"{name}-daemon-{model}-{batch}", "x", _RATE) for batch in BATCHES),
        )
    ]


@dataclass(frozen=True)
class Case:
    """A model, and what it is asked.

    Args:
        artefact: its ONNX file.
        rows: an input of many rows.
    """

    artefact: Artefact
    rows: Array

    @property
    def name(self) -> str:
        """Of the model."""
        return self.artefact.model

    def inputs(self, count: int) -> dict[str, Array]:
        """So many rows."""
        return {"x": np.ascontiguousarray(self.rows[:count])}


def cnn() -> Case:
    """MobileNetV2's shape."""
    x = TensorEntry("x", "float32", ("batch", 3, 224, 224))
    y = TensorEntry("y", "float32", ("batch", 1000))
    return _case("cnn", models.mobilenet(), x, y)


def stack(layers: int = STACK_LAYERS) -> Case:
    """Convolutions on a picture made of 16 numbers."""
    x, y = (TensorEntry(name, "float32", ("batch", n)) for name, n in (("x", 16), ("y", 32)))
    return _case("stack", models.stack(layers), x, y)


def _case(name: str, data: bytes, x: TensorEntry, y: TensorEntry) -> Case:
    shape = (max(BATCHES), *(axis for axis in x.shape[1:] if isinstance(axis, int)))
    rows = np.random.default_rng(5).random(shape, dtype=np.float32)
    return Case(Artefact(name, data, (x.spec(),), (y.spec(),)), rows)


def bundle(case: Case, folder: Path, engine: bytes = b"") -> Path:
    """The case as a bundle; with an engine beside the ONNX file where there is one."""
    inputs = case.inputs(4)
    answer = OnnxRuntime(threads=0).load(case.artefact).run(inputs)["y"]
    files: dict[str, tuple[Any, bytes]] = {
        "model.onnx": ("onnx", case.artefact.data),
        "golden.safetensors": (
            "safetensors",
            write_safetensors({"in.x": inputs["x"], "out.y": answer}),
        ),
    }
    artefacts = [ArtefactEntry("onnx", "model.onnx")]
    if engine:
        files["model.engine"] = ("tensorrt", engine)
        artefacts.append(ArtefactEntry("tensorrt", "model.engine"))
    (x,), (y,) = case.artefact.inputs, case.artefact.outputs
    near = Tolerance(atol=float(np.abs(answer).max()) * 1e-3, rtol=1e-2)
    manifest = Manifest(
        format="edged-bundle-v1",
        name=case.name,
        release=1,
        version="1",
        inputs=(TensorEntry(x.name, x.dtype, x.shape),),
        outputs=(TensorEntry(y.name, y.dtype, y.shape),),
        artefacts=tuple(artefacts),
        members=tuple(member(name, kind, data) for name, (kind, data) in files.items()),
        golden=Golden("golden.safetensors", 4, {"y": near}),
    )
    path = folder / f"{case.name}-1.edgb"
    pack(path, manifest, {name: data for name, (_, data) in files.items()})
    return path


@dataclass(frozen=True)
class Floor:
    """What a runtime is held against.

    Args:
        loops: the ways to run so many rows of a case; called anew for each thread.
        use: to be called once on each thread that runs them.
    """

    loops: Callable[[Case, dict[str, Array]], list[Loop]]
    use: Callable[[], None] = lambda: None


def through_the_daemon(
    rows: list[Row],
    name: str,
    runtime: str,
    cases: Mapping[str, tuple[Case, Path]],
    floor: Floor,
) -> None:
    """Measure every row of a runtime.

    Args:
        rows: where they go.
        name: the rows' beginning.
        runtime: as configured; nothing may stand in for it.
        cases: by name, with their bundles.
        floor: what it is held against.
    """
    body = "".join(
        f"  {case}: {{bundle: {path}, runtime: [{runtime}], fallback: deny}}\n"
        for case, (_, path) in cases.items()
    )
    with served(f"models:\n{body}", *cases) as daemon:
        for model, (case, _) in cases.items():
            _check(daemon, case, runtime, floor)
            rows.append(_latency(daemon, f"{name}-daemon-{model}-1", case, floor))
            for batch in BATCHES:
                row = f"{name}-daemon-{model}-{batch}"
                rows.append(_rate(daemon, row, case, batch, floor))


@contextlib.contextmanager
def served(body: str, *wanted: str, environment: Mapping[str, str] | None = None) -> Iterator[Any]:
    """A daemon that serves these models."""
    with tempfile.TemporaryDirectory(prefix="edged-gpu-") as folder:
        daemon = Daemon(Path(folder) / "d", body, environment)
        try:
            daemon.start(START_S)
            for model in wanted:
                daemon.wait_until_served(model)
            yield daemon
        finally:
            daemon.stop()


def release_of(daemon: Daemon, model: str) -> dict[str, Any]:
    """What the daemon says of a model's release."""
    found = [one for one in daemon.status()["releases"] if one["model"] == model]
    return dict(found[0]) if found else {}


def _check(daemon: Daemon, case: Case, runtime: str, floor: Floor) -> None:
    """A fast answer that is wrong, or of another runtime, is no result."""
    serves = release_of(daemon, case.name).get("runtime")
    if serves != runtime:
        raise BenchError(f"{case.name} is served by {serves}, not by {runtime}")
    inputs = case.inputs(BATCHES[0])
    with daemon.client() as client:
        got = client.infer(case.name, inputs)["y"]
    for loop in floor.loops(case, inputs):
        wanted = loop()["y"]
        np.testing.assert_allclose(got, wanted, rtol=1e-2, atol=np.abs(wanted).max() * 1e-3)


def _latency(daemon: Daemon, name: str, case: Case, floor: Floor) -> Row:
    inputs = case.inputs(1)
    found = floor.loops(case, inputs)
    survey = [p50_ms(loop, SECONDS / 2) for loop in found]
    best = found[survey.index(min(survey))]
    ours, raws = [], []
    with daemon.client() as client:
        ask = _prepared(client, case)
        for _ in range(ROUNDS):
            raws.append(p50_ms(best, SECONDS))
            ours.append(p50_ms(lambda: ask(inputs), SECONDS))
    raw = {"edged_ms": ours, "loop_ms": raws, "survey_ms": survey}
    return measured(name, figures.paired_ratio(ours, raws), "x", _LATENCY, raw)


def _rate(daemon: Daemon, name: str, case: Case, batch: int, floor: Floor) -> Row:
    inputs = case.inputs(batch)
    several = [floor.loops(case, inputs) for _ in range(2)]
    sides = {
        (way, threads): [one[way] for one in several[:threads]]
        for way in range(len(several[0]))
        for threads in (1, 2)
    }
    survey = {key: runs_per_s(side, SECONDS / 2, floor.use) for key, side in sides.items()}
    best = max(survey, key=lambda key: survey[key])
    ours, raws = [], []
    with contextlib.ExitStack() as open_ones:
        clients = [open_ones.enter_context(daemon.client()) for _ in range(CLIENTS)]
        asks = [_prepared(client, case) for client in clients]
        calls = [lambda ask=ask: ask(inputs) for ask in asks]  # type: ignore[misc]
        for _ in range(ROUNDS):
            raws.append(runs_per_s(sides[best], SECONDS, floor.use) * batch)
            ours.append(runs_per_s(calls, SECONDS) * batch)
    raw = {
        "edged_items_per_s": ours,
        "loop_items_per_s": raws,
        "loop_threads": best[1],
        "clients": CLIENTS,
    }
    return measured(name, figures.paired_ratio(ours, raws), "x", _RATE, raw)


def _prepared(client: Any, case: Case) -> Callable[[dict[str, Array]], Any]:
    layouts = {"x": ((None, *case.rows.shape[1:]), "float32")}
    ask: Callable[[dict[str, Array]], Any] = client.prepare(case.name, layouts).infer
    return ask


def through_onnxruntime(rows: list[Row], name: str, runtime: OnnxRuntime, word: str) -> None:
    """The rows of one of ONNX Runtime's providers."""
    if problem := runtime.info().problem:
        raise BenchError(problem)
    with _packed([cnn(), stack()]) as cases:
        sessions = {
            model: open_session(case.artefact, runtime.providers(case.artefact))
            for model, (case, _) in cases.items()
        }

        def loops(case: Case, inputs: dict[str, Array]) -> list[Loop]:
            return ways(sessions[case.name], word, case.artefact, inputs)

        through_the_daemon(rows, name, runtime.name, cases, Floor(loops))


@contextlib.contextmanager
def _packed(cases: Sequence[Case]) -> Iterator[dict[str, tuple[Case, Path]]]:
    with tempfile.TemporaryDirectory(prefix="edged-gpu-") as folder:
        yield {case.name: (case, bundle(case, Path(folder))) for case in cases}


def cuda(rows: list[Row]) -> None:
    """ONNX Runtime with CUDA."""
    through_onnxruntime(rows, "ort-cuda", OnnxCudaRuntime(threads=1), "cuda")


def tensorrt_provider(rows: list[Row]) -> None:
    """ONNX Runtime with TensorRT."""
    through_onnxruntime(rows, "ort-tensorrt", OnnxTensorRtRuntime(threads=1), "cuda")


def tensorrt(rows: list[Row]) -> None:
    """TensorRT itself, with engines that are built first; the daemon runs them in a worker."""
    runtime = TensorRtRuntime()
    trt, device = runtime.open()
    host = runtime.host()
    options = BuildOptions(max_batch=max(BATCHES), usual_batch=8)
    engines = {
        case.name: (case, build_engine(trt, host, case.artefact, options).engine)
        for case in (cnn(), stack())
    }

    def loops(case: Case, inputs: dict[str, Array]) -> list[Loop]:
        device.use()
        return [EngineLoop(trt, device, engines[case.name][1], inputs)]

    with tempfile.TemporaryDirectory(prefix="edged-gpu-") as folder:
        cases = {
            name: (case, bundle(case, Path(folder), engine.encode()))
            for name, (case, engine) in engines.items()
        }
        through_the_daemon(rows, "tensorrt", "tensorrt", cases, Floor(loops, device.use))


STORIES = [
    ("gpu-fallback-allowed", "of 3", "== 3"),
    ("gpu-fallback-denied", "of 2", "== 2"),
    ("gpu-auto", "x", "<= 1.1"),
]
_HIDDEN = {"CUDA_VISIBLE_DEVICES": "-1"}


def stories(rows: list[Row]) -> None:
    """A GPU that is hidden from the daemon, with and without leave to go on; and its own choice."""
    with _packed([stack()]) as cases:
        ((case, path),) = cases.values()
        rows.append(allowed(case, path, "onnxruntime-cuda", _HIDDEN))
        rows.append(denied(case, path, "onnxruntime-cuda", _HIDDEN))
        rows.append(chosen(case, path, ("onnxruntime-cuda", "onnxruntime")))


def allowed(case: Case, path: Path, wanted: str, environment: Mapping[str, str]) -> Row:
    """It serves on the processor, gives right answers, and says why."""
    body = f"models: {{{case.name}: {{bundle: {path}, runtime: [{wanted}, onnxruntime]}}}}\n"
    inputs = case.inputs(2)
    with served(body, case.name, environment=environment) as daemon, daemon.client() as client:
        release = release_of(daemon, case.name)
        told = release.get("runtime_fallback") or {}
        answer = client.infer(case.name, inputs)["y"]
    right = OnnxRuntime(threads=0).load(case.artefact).run(inputs)["y"]
    held = [
        release.get("runtime") == "onnxruntime",
        told.get("wanted") == wanted and bool(told.get("why")),
        bool(np.allclose(answer, right, rtol=1e-3, atol=1e-5)),
    ]
    return _story(0, sum(held), {"held": held, "told": told})


def denied(case: Case, path: Path, wanted: str, environment: Mapping[str, str]) -> Row:
    """It does not serve, and says why."""
    runtimes = f"runtime: [{wanted}, onnxruntime], fallback: deny"
    body = f"models: {{{case.name}: {{bundle: {path}, required: false, {runtimes}}}}}\n"
    until = time.monotonic() + START_S
    with served(body, environment=environment) as daemon:
        while True:
            release = release_of(daemon, case.name)
            if release.get("state") == "failed" or time.monotonic() > until:
                break
            time.sleep(0.05)
    held = [release.get("state") == "failed", "fallback: deny" in str(release.get("reason"))]
    return _story(1, sum(held), {"held": held, "release": release})


def chosen(case: Case, path: Path, runtimes: Sequence[str]) -> Row:
    """Time of a request on what ``runtime: auto`` takes, beside the best that it could take."""
    taken: dict[str, float] = {}
    raw: dict[str, Any] = {}
    inputs = case.inputs(1)
    for wanted in ("auto", *(f"[{name}]" for name in runtimes)):
        body = f"models: {{{case.name}: {{bundle: {path}, runtime: {wanted}}}}}\n"
        with served(body, case.name) as daemon, daemon.client() as client:
            ask = _prepared(client, case)
            taken[wanted] = p50_ms(lambda ask=ask: ask(inputs), SECONDS)  # type: ignore[misc]
            if wanted == "auto":
                release = release_of(daemon, case.name)
                raw |= {"took": release.get("runtime"), "choice": release.get("choice")}
    auto = taken.pop("auto")
    raw |= {"auto_ms": auto, "others_ms": taken}
    return _story(2, auto / min(taken.values()), raw)


def _story(index: int, value: float, raw: dict[str, Any]) -> Row:
    name, unit, bar = STORIES[index]
    return measured(name, value, unit, bar, raw)
