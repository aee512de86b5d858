"""Camera frames over the native protocol: by passed memory, and through the socket beside it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import figures, raw
from benchmarks.frame_floor import Floor
from benchmarks.models import unpack
from benchmarks.results import Row, measured
from benchmarks.stand import BenchError, Stand, load_average

NAMES = ("native-frame", "native-frame-socket", "native-frame-floor")
SHAPE = (1, 1080, 1920, 3)
"""6.2 MB of uint8."""
Frame = np.ndarray[Any, Any]
ROUNDS = 7
ROUND_S = 1.0


def frames(stand: Stand) -> list[Row]:
    """p50 of a request less p50 of the run alone; the frame is written anew before each.

    The model gives the largest byte, so it reads all of them, and every answer is looked at.
    """
    bundle = make_frame(stand.folder / "frame-1.edgb")
    model = unpack(bundle, stand.folder)
    session = raw.open_session(model, 1)
    everywhere = os.sched_getaffinity(0)
    here, there = (sorted(everywhere) * 2)[:2]
    body = f"runtime: {{threads: 1}}\nmodels: {{frame: {{bundle: {bundle}}}}}\n"
    with (
        Floor(model, SHAPE) as floor,
        stand.daemon(body) as daemon,
        daemon.client() as client,
    ):
        call = client.prepare("frame", frame=(SHAPE, "uint8"))
        own = np.empty(SHAPE, np.uint8)
        with call.place() as memory:
            ways: dict[str, tuple[Frame, Callable[[], Frame]]] = {
                "run": (own, lambda: session.run(None, {"frame": own})[0]),
                "memory": (memory.inputs["frame"], lambda: memory.run()["y"]),
                "socket": (own, lambda: call.submit(frame=own).result()["y"]),
                "unasked": (own, lambda: call(own)["y"]),
                "floor_here": (floor.frame, lambda: floor.ask(here)),
                "floor_there": (floor.frame, lambda: floor.ask(there)),
                "floor": (floor.frame, lambda: floor.ask(-1)),
            }
            pinned = {"floor_here", "floor_there"}
            found: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(ROUNDS):
                for way, (place, ask) in ways.items():
                    os.sched_setaffinity(0, {here} if way in pinned else everywhere)
                    found[way].append(_p50_us(ask, place, ROUND_S * stand.scale))
    over = {
        way: [ours - alone for ours, alone in zip(found[way], found["run"], strict=True)]
        for way in ways
    }
    details = {f"{way}_p50_us": times for way, times in found.items()}
    details |= {f"over_{way}_us": times for way, times in over.items() if way.startswith("floor")}
    details |= {"load_average": load_average(), "over_unasked_us": over["unasked"]}
    return [
        measured(NAMES[0], figures.median(over["memory"]), "us", "<= 80", details),
        measured(NAMES[1], figures.median(over["socket"]), "us", "", details),
        measured(NAMES[2], figures.median(over["floor_here"]), "us", "", details),
    ]


def make_frame(bundle: Path, shape: tuple[int, ...] = SHAPE, name: str = "frame") -> Path:
    """The largest byte of a frame: the whole of it is read, and next to nothing is computed."""
    from converters.pack import member, pack  # noqa: PLC0415 - only where it is made
    from edged.manifest import ArtefactEntry, Golden, Manifest, TensorEntry  # noqa: PLC0415
    from edged.specs import ImageInput  # noqa: PLC0415
    from edged.store.golden import write_safetensors  # noqa: PLC0415

    picture = pictures(shape)[0]
    members = {
        "model.onnx": largest(shape),
        "golden.safetensors": write_safetensors(
            {"in.frame": picture, "out.y": picture.max(axis=(1, 2, 3))}
        ),
    }
    kinds = {"model.onnx": "onnx", "golden.safetensors": "safetensors"}
    manifest = Manifest(
        format="edged-bundle-v1",
        name=name,
        release=1,
        version="1",
        inputs=(TensorEntry("frame", "uint8", ("batch", *shape[1:])),),
        outputs=(TensorEntry("y", "uint8", ("batch",)),),
        artefacts=(ArtefactEntry("onnx", "model.onnx"),),
        members=tuple(member(name, kinds[name], data) for name, data in members.items()),
        golden=Golden("golden.safetensors", 1, {}),
        input_processing={"frame": ImageInput(shape[2], shape[1], layout="NHWC")},
    )
    pack(bundle, manifest, members)
    return bundle


def largest(shape: tuple[int, ...] = SHAPE) -> bytes:
    """The model file."""
    from onnx import TensorProto, helper  # noqa: PLC0415

    node = helper.make_node("ReduceMax", ["frame"], ["y"], axes=[1, 2, 3], keepdims=0)
    shapes = (("frame", ["batch", *shape[1:]]), ("y", ["batch"]))
    given, made = (helper.make_tensor_value_info(n, TensorProto.UINT8, s) for n, s in shapes)
    graph = helper.make_graph([node], "frame", [given], [made])
    opset = [helper.make_opsetid("", 13)]
    data: bytes = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    return data


def pictures(shape: tuple[int, ...] = SHAPE) -> list[Frame]:
    """Two of them, whose largest bytes differ."""
    chance = np.random.default_rng(4)
    return [chance.integers(0, top, shape, np.uint8) for top in (200, 250)]


def _p50_us(ask: Callable[[], Frame], place: Frame, seconds: float) -> float:
    """Of requests whose frame is written anew before each, which is not part of the time."""
    clock = time.perf_counter_ns
    shown = [(picture, int(picture.max())) for picture in pictures()]
    times: list[float] = []
    until = clock() + int(seconds * 1e9)
    while clock() < until:
        picture, wanted = shown[len(times) % 2]
        np.copyto(place, picture)
        before = clock()
        answer = ask()
        times.append((clock() - before) / 1000)
        if answer.tolist() != [wanted]:
            raise BenchError(f"{answer.tolist()} for a frame whose largest byte is {wanted}")
    return figures.median(times[len(times) // 10 :])
