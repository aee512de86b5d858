"""A release that fails on a part of what it is asked is put into the configuration under load: how
long it is in effect after its answers have breached what ``reload.confirm`` allows."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.results import Row, measured
from benchmarks.stand import BenchError, Daemon, Stand, load_average
from edged.errors import EdgedError

BARS = (("way-back", "s", "<= 2"),)
"""Name, unit and bar of the row."""
ROUNDS = 5
BAD_EVERY = 5
"""One request in so many is one that the bad release fails."""
ALLOWED, LEAST = 0.05, 5
"""The default of ``reload.confirm.max_errors``, and the failures below which none is judged."""
HEAD = "reload: {settle: 10ms, confirm: {window: 3s}}\ntrial: {enabled: false}\n"


class Answer(NamedTuple):
    """When it came, and which release gave it; 0 for an error."""

    at: float
    release: int


def way_back(stand: Stand) -> list[Row]:
    """The row."""
    bundles = [_make(stand.folder, release, fails=release == 2) for release in (1, 2)]
    listed = ", ".join(map(str, bundles))
    body = f"{HEAD}models:\n  moody: {{bundle: [{listed}], serve: 1}}\n"
    took, failed = [], []
    for _ in range(max(2, int(ROUNDS * stand.scale))):
        with stand.daemon(body) as daemon:
            seconds, errors = _round(daemon)
            took.append(seconds)
            failed.append(errors)
    raw = {"s": took, "failed": failed, "load_average": load_average()}
    ((name, unit, bar),) = BARS
    return [measured(name, max(took), unit, bar, raw)]


def _round(daemon: Daemon) -> tuple[float, int]:
    """Seconds from the breach to the last answer of the bad release, and all that failed."""
    daemon.wait_until_proven()
    text = daemon.config.read_text()
    answers: list[Answer] = []
    is_over = threading.Event()
    caller = threading.Thread(target=_ask, args=(daemon, answers, is_over))
    caller.start()
    try:
        daemon.wait_until(lambda: len(answers) > 100)
        daemon.config.write_text(text.replace("serve: 1", "serve: 2"))
        daemon.wait_until(lambda: _is_back(answers))
    finally:
        is_over.set()
        caller.join()
    last = max(one.at for one in answers if one.release != 1)
    return last - _breach(answers), sum(not one.release for one in answers)


def _is_back(answers: list[Answer]) -> bool:
    """Whether the first release answered after the second one had, for long enough to be sure."""
    tail = [one.release for one in answers[-200:]]
    return any(one.release == 2 for one in list(answers)) and len(tail) == 200 and set(tail) == {1}


def _breach(answers: list[Answer]) -> float:
    """When the answers since the change were first beyond what is allowed."""
    seen: Counter[bool] = Counter()
    for one in answers:
        if one.release == 1 and not seen:
            continue
        seen[one.release == 0] += 1
        if seen[True] >= LEAST and seen[True] > ALLOWED * seen.total():
            return one.at
    raise BenchError("the bad release was never beyond what is allowed")


def _ask(daemon: Daemon, answers: list[Answer], is_over: threading.Event) -> None:
    x = {False: np.ones((1, 4), np.float32), True: np.full((1, 4), 500, np.float32)}
    with daemon.client() as client:
        number = 0
        while not is_over.is_set():
            number += 1
            try:
                release = client.infer("moody", x=x[number % BAD_EVERY == 0]).release
            except EdgedError:
                release = 0
            answers.append(Answer(time.perf_counter(), release))
            time.sleep(0.001)


def _make(folder: Path, release: int, *, fails: bool) -> Path:
    """``y = 2 x``; one that fails does so where a row has a number of 64 or more."""
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415 - only where it is made

    from converters.pack import member, pack  # noqa: PLC0415
    from edged.manifest import ArtefactEntry, Golden, Manifest, TensorEntry  # noqa: PLC0415
    from edged.store.golden import write_safetensors  # noqa: PLC0415

    nodes = [helper.make_node("Mul", ["x", "two"], ["twice" if fails else "y"])]
    if fails:
        nodes += [
            helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
            helper.make_node("Cast", ["largest"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["zeros", "index"], ["nothing"]),
            helper.make_node("Add", ["twice", "nothing"], ["y"]),
        ]
    constants = {"zeros": np.zeros(64, np.float32), "two": np.array(2, np.float32)}
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes, "moody",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(a, name) for name, a in constants.items() if name in used],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    x = np.random.default_rng(1).random((4, 4), dtype=np.float32)
    members = {
        "model.onnx": model.SerializeToString(),
        "golden.safetensors": write_safetensors({"in.x": x, "out.y": x * 2}),
    }
    kinds = {"model.onnx": "onnx", "golden.safetensors": "safetensors"}
    manifest = Manifest(
        format="edged-bundle-v1", name="moody", release=release, version="1",
        inputs=(TensorEntry("x", "float32", ("batch", 4)),),
        outputs=(TensorEntry("y", "float32", ("batch", 4)),),
        artefacts=(ArtefactEntry("onnx", "model.onnx"),),
        members=tuple(member(name, kinds[name], data) for name, data in members.items()),
        golden=Golden("golden.safetensors", 4, {}),
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    bundle = folder / f"moody-{release}.edgb"
    pack(bundle, manifest, members)
    return bundle
