"""A runtime like any other, whose sessions are processes; it knows how they died."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from onnx import helper

from edged.errors import LoadError, WorkerDiedError
from edged.loading import load_release
from edged.manifest import TensorEntry
from edged.strings import strings
from edged.workers.isolation import WorkerCaps, WorkerRuntime
from tests.fakes.model import FakeStored, doubler
from tests.fakes.worker import FakeProcess, ThreadProcess, Workers, artefact_of
from tests.models import TinyModel, double, onnx_bytes

X = {"x": np.ones((1, 4), np.float32)}


@pytest.fixture
def puppets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    made = Workers(monkeypatch, FakeProcess)
    yield made
    made.close()


def test_a_death_in_the_load(puppets: Workers, monkeypatch: pytest.MonkeyPatch):
    def dies(process: FakeProcess) -> None:
        process.die("died of SIGILL", "SIGILL")

    monkeypatch.setattr(puppets.kind, "start", dies)
    runtime = WorkerRuntime("onnxruntime", WorkerCaps())
    assert runtime.crash == ""
    with pytest.raises(WorkerDiedError, match="died of SIGILL"):
        runtime.load(artefact_of(double()))
    assert runtime.crash == "SIGILL"
    assert puppets.last.ends == 1


def test_a_death_in_a_run(puppets: Workers):
    runtime = WorkerRuntime("onnxruntime", WorkerCaps())
    first, second = runtime.load(artefact_of(double())), runtime.load(artefact_of(double()))
    puppets.last.die("died of SIGFPE", "SIGFPE")
    with pytest.raises(WorkerDiedError):
        second.run(X)
    assert runtime.crash == "SIGFPE"
    first.close()


def test_an_end_from_outside_is_no_crash(puppets: Workers):
    runtime = WorkerRuntime("onnxruntime", WorkerCaps())
    session = runtime.load(artefact_of(double()))
    puppets.last.die("died of SIGKILL")
    with pytest.raises(WorkerDiedError, match="SIGKILL"):
        session.run(X)
    assert runtime.crash == ""


def test_says_nothing_that_it_would_have_to_import():
    runtime = WorkerRuntime("onnxruntime", WorkerCaps())
    info = runtime.info()
    assert (info.name, info.version, info.problem) == ("onnxruntime", "", "")
    artefact = artefact_of(double())
    assert runtime.estimate_bytes(artefact) >= len(artefact.data)
    assert WorkerRuntime("o", WorkerCaps(memory_bytes=77)).estimate_bytes(artefact) == 77


def test_loading_takes_it_for_a_runtime(monkeypatch: pytest.MonkeyPatch):
    """Golden samples and all; and a load that is refused is passed on."""
    workers = Workers(monkeypatch, ThreadProcess)
    stored, said = FakeStored(doubler()), []

    def create(name: str) -> WorkerRuntime:
        return WorkerRuntime(name, WorkerCaps())

    loaded = load_release(stored, ["onnxruntime"], create, lambda: said.append("loaded"))
    assert (loaded.runtime, said) == ("onnxruntime", ["loaded"])
    assert workers.runtime.sessions[0].runs[:2] == [3, 1]
    loaded.session.close()
    workers.runtime.error = LoadError("no such operator")
    with pytest.raises(LoadError, match="onnxruntime: no such operator"):
        load_release(stored, ["onnxruntime"], create, lambda: None)
    workers.close()


@pytest.mark.parametrize("shape", [(), ("batch",), (2,), ("batch", 2)], ids=str)
def test_strings_of_every_shape_in_a_real_process(shape: tuple[int | str, ...]):
    """Without an axis of their own too they have any length, so that no layout says where they lie."""
    x, y = TensorEntry("x", "string", shape), TensorEntry("y", "string", shape)
    data = onnx_bytes([helper.make_node("Identity", ["x"], ["y"])], [x], [y])
    model = TinyModel("text", data, (x,), (y,), dict, dict)
    session = WorkerRuntime("onnxruntime", WorkerCaps(threads=1)).load(artefact_of(model))
    try:
        lengths = tuple(2 if isinstance(axis, str) else axis for axis in shape)
        for word in (b"a", b"longer", b""):
            text = strings([word] * int(np.prod(lengths)), lengths)
            assert session.run({"x": text})["y"].tolist() == text.tolist()
    finally:
        session.close()
