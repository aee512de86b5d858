"""Engines of a bundle through the loader, in real worker processes over a GPU that is played.

What is asked of every case: which process handed an engine to TensorRT, if any. It is never the one
that loads releases, and none at all where the engine is not what it must be.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edged.config.schema import ModelConfig
from edged.errors import LoadError
from edged.loading import Loaded
from edged.manifest import Manifest, canonical_json
from edged.runtimes import tensorrt_host
from edged.runtimes.engine import Engine, decode
from edged.runtimes.registry import create_runtime
from edged.serving.choosing.order import LoadOrder
from edged.serving.inside import inside
from edged.store.bundle import bundle_digest
from edged.store.stored import StoredRelease
from edged.workers.session import WorkerCaps, WorkerSession
from edged.workers.shared import SharedWorkers
from tests.engines import (
    DRIVER,
    ELSEWHERE,
    HOST,
    Site,
    build,
    engine_names,
    forged,
    with_engines,
    without_said,
)
from tests.fakes.loader import make_loader
from tests.models import double

WANTED = ("tensorrt", "onnxruntime")
Bundle = tuple[Manifest, dict[str, bytes]]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(tensorrt_host, "PROBE", tensorrt_host.HostProbe())
    made = Site(tmp_path / "site")
    monkeypatch.syspath_prepend(made.path)
    return made


class Device:
    """A loader of one process, and what it has in its store."""

    def __init__(self, folder: Path, *, trial: bool) -> None:
        self.folder = folder / "store"
        self.folder.mkdir(parents=True)
        self.loaded: list[Loaded] = []
        self.loader = make_loader(lambda name: create_runtime(name, threads=1), trial=trial)

    def load(self, bundle: Bundle, **config: Any) -> Loaded:
        manifest, members = bundle
        for name, data in members.items():
            (self.folder / name).write_bytes(data)
        digest = bundle_digest(canonical_json(manifest))
        model = ModelConfig(**{"bundle": "b", "runtime": WANTED} | config)
        stored = StoredRelease(digest, manifest, self.folder)
        self.loaded.append(self.loader.load(LoadOrder(digest, stored, model), lambda: None))
        return self.loaded[-1]

    def close(self) -> None:
        for each in self.loaded:
            each.session.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Device]]:
    """Devices whose models end with the test."""
    made: list[Device] = []

    def device(name: str = "device", *, trial: bool = False) -> Device:
        made.append(Device(tmp_path / name, trial=trial))
        return made[-1]

    yield device
    for each in made:
        each.close()


Make = Callable[..., Device]


def right() -> Bundle:
    return with_engines(double(), [build(double(), ELSEWHERE), build(double(), max_batch=16)])


@pytest.mark.parametrize(
    ("isolation", "trial"),
    [
        ("none", False),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in itertools.product(["none", "device", "model"], [True, False])
            if each != ("none", False)
        ),
    ],
)
def test_the_engine_for_this_machine_serves_and_never_from_here(
    site: Site, make: Make, isolation: str, trial: bool
):
    loaded = make(trial=trial).load(right(), isolation=isolation)
    assert (loaded.runtime, loaded.why) == ("tensorrt", "")
    assert isinstance(loaded.session, WorkerSession)
    assert len(site.deserialised) == (2 if trial and isolation != "model" else 1)
    assert os.getpid() not in site.deserialised
    x = np.arange(60, dtype="f4").reshape(15, 4)
    np.testing.assert_array_equal(loaded.session.run({"x": x})["y"], x * 2)


@pytest.mark.slow
def test_a_race_of_all_runtimes_has_it_run_elsewhere_too(site: Site, make: Make):
    loaded = make(trial=True).load(right(), runtime="auto")
    assert "tensorrt" in loaded.why, "raced, with its figures"
    assert site.deserialised
    assert os.getpid() not in site.deserialised
    assert isinstance(loaded.session, WorkerSession) == (loaded.runtime == "tensorrt")


@pytest.mark.slow
def test_this_process_would_refuse(site: Site, make: Make, monkeypatch: pytest.MonkeyPatch):
    """The control: were it sent here all the same, its runtime loads nothing."""
    monkeypatch.setattr("edged.serving.trial.inside", lambda create, *_: create)
    assert make().load(right()).runtime == "onnxruntime"
    assert site.is_clean()


def test_only_what_must_is_kept_out():
    made: list[str] = []

    def create(name: str) -> Any:
        made.append(name)
        return create_runtime(name, threads=1)

    order = LoadOrder(
        "d" * 64, StoredRelease("d" * 64, right()[0], Path()), ModelConfig(bundle="b")
    )
    runtime = inside(create, order, SharedWorkers(), WorkerCaps())
    assert type(runtime("onnxruntime")).__name__ == "OnnxRuntime"
    assert type(runtime("tensorrt")).__name__ == "WorkerRuntime"
    assert made == ["onnxruntime"]


def test_without_a_driver_it_says_so(make: Make, monkeypatch: pytest.MonkeyPatch):
    probe = tensorrt_host.HostProbe(lambda: tensorrt_host.Told(problem="no NVIDIA driver"))
    monkeypatch.setattr(tensorrt_host, "PROBE", probe)
    loaded = make(trial=True).load(right())
    assert loaded.runtime == "onnxruntime"
    assert "because no NVIDIA driver; onnxruntime runs the ONNX file" in loaded.why
    with pytest.raises(LoadError, match="tensorrt: no NVIDIA driver"):
        make("alone").load(right(), runtime=("tensorrt",))


def moved(**changes: Any) -> Bundle:
    """The one engine was built where something else is."""
    return with_engines(double(), [build(double(), msgspec.structs.replace(HOST, **changes))])


def silent(bundle: Bundle) -> Bundle:
    """The manifest does not say where, so that only the engine itself can tell."""
    return without_said(bundle[0]), bundle[1]


def changed(bundle: Bundle, change: Callable[[bytes], bytes]) -> Bundle:
    """Another file under the engine's name, with everything signed anew."""
    (name,) = engine_names(bundle[0])
    return forged(*bundle, name, change(bundle[1][name]))


def says(engine: Engine, **changes: Any) -> bytes:
    """The engine with another record in its head."""
    return Engine(msgspec.structs.replace(engine.fingerprint, **changes), engine.plan).encode()


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


HOSTILE: dict[str, tuple[Callable[[], Bundle], str]] = {
    "from another device": (lambda: moved(gpu="Another"), "no engine .* gpu Another"),
    "of another TensorRT": (lambda: moved(tensorrt="10.16.1"), "no engine .* tensorrt 10.16.1"),
    "of another processor": (lambda: moved(system="Linux riscv64"), "no engine .* Linux riscv64"),
    "of another GPU architecture": (lambda: moved(compute_capability="9.0"), "no engine .* 9.0"),
    "of another driver": (lambda: moved(driver=f"{DRIVER}.1"), "no engine .* driver 580.159.1"),
    "from another device, untold": (lambda: silent(moved(gpu="Another")), "gpu Another"),
    "of another TensorRT, untold": (lambda: silent(moved(tensorrt="10.16.1")), "10.16.1"),
    "of another GPU architecture, untold": (
        lambda: silent(moved(compute_capability="9.0")),
        "compute capability 9.0",
    ),
    "told to be from here, its head says otherwise": (
        lambda: changed(moved(), lambda data: says(decode(data), host=ELSEWHERE)),
        "the engine was built for compute capability 7.2 .* build it again",
    ),
    "its head says from here, the manifest knows better": (
        lambda: changed(moved(gpu="Another"), lambda data: says(decode(data), host=HOST)),
        "no engine of the bundle .* gpu Another",
    ),
    "its head has the digest of another plan": (
        lambda: changed(moved(), lambda data: says(decode(data), plan_sha256="0" * 64)),
        "its plan has another sha256",
    ),
    "its head has another size": (
        lambda: changed(moved(), lambda data: says(decode(data), plan_bytes=1)),
        "of 1 bytes",
    ),
    "a flipped bit, signed": (lambda: changed(moved(), flipped), "its plan has another sha256"),
    "cut short, signed": (
        lambda: changed(moved(), lambda data: data[: len(data) - 9]),
        "is cut short",
    ),
    "no engine at all, signed": (
        lambda: changed(moved(), lambda data: b"\x7fELF" + bytes(100)),
        "is no engine file",
    ),
}
QUICK = {"of another driver", "a flipped bit, signed"}
"""One that the manifest gives away, and one that the worker finds; each takes a second."""


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in HOSTILE],
)
def test_what_is_not_for_this_machine_is_refused_before_tensorrt_sees_it(
    site: Site, make: Make, case: str
):
    bundle, why = HOSTILE[case]
    loaded = make().load(bundle())
    assert loaded.runtime == "onnxruntime"
    assert loaded.why.startswith("not used: model-float32-sm")
    assert re.search(why, loaded.why), loaded.why
    assert site.is_clean()


def test_what_the_store_holds_is_what_was_signed(site: Site, make: Make):
    """A bit that flipped on the disk, or by whoever can write there."""
    manifest, members = moved()
    (name,) = engine_names(manifest)
    loaded = make().load((manifest, members | {name: flipped(members[name])}))
    assert loaded.runtime == "onnxruntime"
    assert "is not what the manifest says" in loaded.why
    assert site.is_clean()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gate", "case"),
    [
        ("check_host = lambda *_: None", "of another TensorRT, untold"),
        ("decode = lambda data, honest=t.decode: trust(data)", "a flipped bit, signed"),
    ],
)
def test_control_without_its_gate_it_would_reach_tensorrt(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, gate: str, case: str
):
    trust = """
import edged.runtimes.tensorrt as t
import edged.runtimes.engine as e, msgspec
def trust(data):
    length = int.from_bytes(data[12:16], "little")
    head = msgspec.json.decode(data[16 : 16 + length], type=e.Fingerprint)
    return e.Engine(head, data[16 + length :])
"""
    monkeypatch.setattr(tensorrt_host, "PROBE", tensorrt_host.HostProbe())
    site = Site(tmp_path / "site", extra=f"{trust}\nt.{gate}\n")
    monkeypatch.syspath_prepend(site.path)
    make().load(HOSTILE[case][0]())
    assert len(site.deserialised) == 1
