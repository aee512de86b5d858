"""ONNX Runtime on a GPU: a session that is not there is refused, with the reason."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.errors import LoadError
from edged.runtimes import onnxruntime_cuda
from edged.runtimes.base import Artefact
from edged.runtimes.onnxruntime import OnnxRuntime
from edged.runtimes.onnxruntime_cuda import (
    CUDA,
    OnnxCudaRuntime,
    library_problem,
    placement,
)
from edged.workers.isolation import WorkerCaps, WorkerRuntime
from tests.models import TinyModel, classifier, double, image

ort = pytest.importorskip("onnxruntime")


def artefact(model: TinyModel) -> Artefact:
    return Artefact(
        model.name,
        model.data,
        tuple(entry.spec() for entry in model.inputs),
        tuple(entry.spec() for entry in model.outputs),
    )


class Package:
    """The package as it is, except that it says it has CUDA and makes the sessions it is told to."""

    __version__ = ort.__version__
    __file__ = ort.__file__
    SessionOptions = ort.SessionOptions
    RunOptions = ort.RunOptions

    def __init__(self, providers: list[str], parts: list[Any] | None = None) -> None:
        self.providers = providers
        self.parts = parts
        self.asked: list[Any] = []

    def get_available_providers(self) -> list[str]:
        return [CUDA, "CPUExecutionProvider"]

    def InferenceSession(  # noqa: N802 - the package's name
        self, data: bytes, options: Any, *, providers: Any, enable_fallback: int
    ) -> Any:
        assert enable_fallback == 0
        self.asked = providers
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        session.get_providers = lambda: self.providers
        if self.parts is not None:
            session.get_provider_graph_assignment_info = lambda: self.parts
        return session


class Part:
    def __init__(self, ep_name: str, *kinds: str) -> None:
        self.ep_name = ep_name
        self._kinds = kinds

    def get_nodes(self) -> list[Any]:
        return [type("Node", (), {"op_type": kind}) for kind in self._kinds]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Package:
    made = Package([CUDA, "CPUExecutionProvider"], [Part(CUDA, "Mul")])
    monkeypatch.setattr(onnxruntime_cuda, "backend_module", lambda: made)
    monkeypatch.setattr("edged.runtimes.onnxruntime.backend_module", lambda: made)
    monkeypatch.setattr(onnxruntime_cuda, "driver_problem", lambda: "")
    monkeypatch.setattr(onnxruntime_cuda, "library_problem", lambda *_: "")
    return made


def test_a_package_without_cuda_says_what_to_install():
    if CUDA in ort.get_available_providers():
        pytest.skip("this package has CUDA; gpu tests hold it")
    made = OnnxCudaRuntime(threads=1)
    assert "built without CUDA; pip" in made.info().problem
    with pytest.raises(LoadError, match=r'built without CUDA; pip install "edged\[gpu\]"'):
        made.load(artefact(double()))


def test_what_is_asked_for(package: Package):
    OnnxCudaRuntime(threads=1, device=1).load(artefact(double()))
    (name, options), cpu = package.asked
    assert (name, cpu) == (CUDA, "CPUExecutionProvider")
    assert options["device_id"] == "1"
    assert options["use_tf32"] == "0"


def test_a_session_on_the_cpu_is_refused_with_the_reason(
    package: Package, monkeypatch: pytest.MonkeyPatch
):
    package.providers = ["CPUExecutionProvider"]
    made = OnnxCudaRuntime(threads=1)
    with pytest.raises(
        LoadError, match="gave CPUExecutionProvider and no CUDA: it does not say why"
    ):
        made.load(artefact(double()))
    words = iter(["", *["libcublasLt is not there"] * 2])
    monkeypatch.setattr(onnxruntime_cuda, "library_problem", lambda *_: next(words))
    with pytest.raises(LoadError, match="no CUDA: libcublasLt is not there"):
        made.load(artefact(double()))


def test_a_model_of_which_nothing_runs_there_is_refused(package: Package):
    package.parts = [Part("CPUExecutionProvider", "TreeEnsembleClassifier", "Cast")]
    with pytest.raises(LoadError, match=r"none of its 2 nodes runs on the GPU \(1 TreeEnsemble"):
        OnnxCudaRuntime(threads=1).load(artefact(double()))


def test_nodes_left_on_the_cpu_are_counted_and_named(
    package: Package, caplog: pytest.LogCaptureFixture
):
    package.parts = [Part(CUDA, "Conv", "Conv"), Part("CPUExecutionProvider", "NonZero")]
    with caplog.at_level(logging.WARNING, "edged.runtimes"):
        OnnxCudaRuntime(threads=1).load(artefact(double()))
    assert "1 of 3 nodes run on the CPU: 1 NonZero" in caplog.text


def test_placement_as_the_package_tells_it():
    """Of a real session, on the CPU: the calls are the package's own."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ort.InferenceSession(double().data, options, providers=["CPUExecutionProvider"])
    if not hasattr(session, "get_provider_graph_assignment_info"):
        assert placement(session) is None
        return
    assert placement(session) == (Counter(), Counter({"Mul": 1}))


class TestLibrary:
    def test_not_there(self, tmp_path: Path):
        assert "has no libonnxruntime_providers_shared.so" in library_problem(
            tmp_path, OnnxCudaRuntime.library
        )

    def test_broken_says_the_linkers_words_without_the_path(self, tmp_path: Path):
        for name in ("shared", "cuda"):
            (tmp_path / f"libonnxruntime_providers_{name}.so").write_bytes(b"no library")
        problem = library_problem(tmp_path, OnnxCudaRuntime.library)
        assert "does not load" in problem
        assert "too short" in problem or "ELF" in problem
        assert str(tmp_path) not in problem

    def test_preloading_is_tried_before_it_is_given_up(
        self, package: Package, monkeypatch: pytest.MonkeyPatch
    ):
        found = iter(["libcublasLt.so.13 is not there", ""])
        monkeypatch.setattr(onnxruntime_cuda, "library_problem", lambda *_: next(found))
        called: list[int] = []
        package.preload_dlls = lambda: called.append(1)
        assert OnnxCudaRuntime(threads=1).info().devices == ("cuda:0",)
        assert called


@pytest.mark.gpu
class TestRealDevice:
    @pytest.fixture
    def runtime(self) -> OnnxCudaRuntime:
        made = OnnxCudaRuntime(threads=1)
        if problem := made.info().problem:
            pytest.skip(f"gpu: {problem}")
        return made

    @pytest.mark.parametrize("model", [double(), image()], ids=lambda m: m.name)
    def test_same_numbers_as_the_cpu(self, runtime: OnnxCudaRuntime, model: TinyModel):
        here, there = OnnxRuntime(threads=1).load(artefact(model)), runtime.load(artefact(model))
        for rows in (1, 3, 8):
            inputs = model.sample(rows)
            wanted, got = here.run(inputs), there.run(inputs)
            for name, array in wanted.items():
                np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5)
        there.close()

    def test_a_model_that_only_the_cpu_knows(self, runtime: OnnxCudaRuntime):
        with pytest.raises(LoadError, match="none of its"):
            runtime.load(artefact(trees()))

    def test_several_threads_at_once(self, runtime: OnnxCudaRuntime):
        model = image()
        session = runtime.load(artefact(model))
        failures: list[BaseException] = []

        def work() -> None:
            try:
                for _ in range(30):
                    model.check(session)
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failures

    def test_in_the_worker_of_a_trial_with_its_caps(self, runtime: OnnxCudaRuntime):
        """Address space that CUDA reserves must not count against the cap of private memory."""
        caps = WorkerCaps(threads=1, memory_bytes=6 << 30, nice=19)
        model = classifier()
        session = WorkerRuntime("onnxruntime-cuda", caps).load(artefact(model))
        model.check(session)
        session.close()


def trees() -> TinyModel:
    """A decision tree: operators that no GPU has."""
    skl2onnx = pytest.importorskip("skl2onnx")
    tree = pytest.importorskip("sklearn.tree")
    x = np.random.default_rng(0).random((60, 4), dtype="f4")
    fitted = tree.DecisionTreeRegressor(max_depth=3).fit(x, x.sum(1))
    data = skl2onnx.to_onnx(fitted, x[:1], target_opset=17).SerializeToString()
    raise_if = double()
    return TinyModel(
        "trees", data, raise_if.inputs, raise_if.outputs, raise_if.reference, raise_if.sample
    )
