"""ONNX Runtime's TensorRT provider: what it is told, what it took, and why it cannot be had."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.errors import LoadError, RunError
from edged.resident import Keeping
from edged.runtimes import onnxruntime_cuda
from edged.runtimes.base import Artefact
from edged.runtimes.onnxruntime import OnnxRuntime
from edged.runtimes.onnxruntime_cuda import CUDA
from edged.runtimes.onnxruntime_device import Place
from edged.runtimes.onnxruntime_tensorrt import (
    MOST_ROWS,
    TENSORRT,
    OnnxTensorRtRuntime,
    OnnxTensorRtSession,
    profile,
)
from edged.tensors import TensorSpec
from tests.fakes.onnx_device import FakeBackendSession, FakeDevice
from tests.models import TinyModel, double, embedding, scalar, two_inputs
from tests.runtimes.test_onnxruntime_cuda import Package, Part, artefact

ort = pytest.importorskip("onnxruntime")
ALL = [TENSORRT, CUDA, "CPUExecutionProvider"]


class TensorRtPackage(Package):
    """As ``Package``, with TensorRT as well."""

    def get_available_providers(self) -> list[str]:
        return ALL


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> TensorRtPackage:
    made = TensorRtPackage(list(ALL), [Part(TENSORRT, "Mul")])
    monkeypatch.setattr(onnxruntime_cuda, "backend_module", lambda: made)
    monkeypatch.setattr("edged.runtimes.onnxruntime.backend_module", lambda: made)
    monkeypatch.setattr(onnxruntime_cuda, "driver_problem", lambda: "")
    monkeypatch.setattr(onnxruntime_cuda, "library_problem", lambda *_: "")
    return made


def settings(package: TensorRtPackage, model: TinyModel) -> dict[str, str]:
    OnnxTensorRtRuntime(threads=1, device=1).load(artefact(model))
    (name, given), (after, _), last = package.asked
    assert [name, after, last] == ALL
    return given


def test_what_is_asked_for(package: TensorRtPackage):
    given = settings(package, double())
    assert given["device_id"] == "1"
    assert given["trt_profile_min_shapes"] == "x:1x4"
    assert given["trt_profile_opt_shapes"] == "x:8x4"
    assert given["trt_profile_max_shapes"] == f"x:{MOST_ROWS}x4"
    assert given["trt_fp16_enable"] == given["trt_int8_enable"] == "False"


def test_nothing_is_deserialised_that_is_not_sealed(package: TensorRtPackage):
    given = settings(package, double())
    off = {n: value for n, value in given.items() if "cache" in n or "context" in n}
    assert off == {
        "trt_engine_cache_enable": "False",
        "trt_timing_cache_enable": "False",
        "trt_dump_ep_context_model": "False",
    }


def test_halves_only_where_the_file_has_them(package: TensorRtPackage):
    assert settings(package, double("float16"))["trt_fp16_enable"] == "True"


class TestProfile:
    def test_every_input_with_rows(self):
        specs = tuple(entry.spec() for entry in two_inputs().inputs)
        made = profile("m", specs)["trt_profile_max_shapes"]
        assert made.count(f":{MOST_ROWS}x") == sum(spec.is_batched for spec in specs)

    def test_fixed_lengths_need_none(self):
        assert profile("m", (TensorSpec("x", "float32", (1, 4)),)) == {}

    def test_any_other_free_axis_is_refused(self, package: TensorRtPackage):
        with pytest.raises(LoadError, match='input "ids" has a free axis "words" besides its rows'):
            OnnxTensorRtRuntime(threads=1).load(artefact(embedding()))


class TestRefused:
    def test_a_package_without_it(self):
        if TENSORRT in ort.get_available_providers():
            pytest.skip("this package has it; gpu tests hold it")
        problem = OnnxTensorRtRuntime(threads=1).info().problem
        assert "was built without Tensorrt" in problem
        assert "TensorRT of the release that it was made for" in problem

    def test_a_session_that_did_not_get_it(
        self, package: TensorRtPackage, monkeypatch: pytest.MonkeyPatch
    ):
        package.providers = ALL[1:]
        words = iter(["", *["libnvinfer.so.10 is not there"] * 2])
        monkeypatch.setattr(onnxruntime_cuda, "library_problem", lambda *_: next(words))
        with pytest.raises(LoadError, match=r"and no Tensorrt: libnvinfer\.so\.10 is not there"):
            OnnxTensorRtRuntime(threads=1).load(artefact(double()))

    def test_a_model_of_which_it_took_nothing(self, package: TensorRtPackage):
        package.parts = [Part(CUDA, "Conv", "Conv"), Part("CPUExecutionProvider", "NonZero")]
        with pytest.raises(LoadError, match=r"took none of its 3 nodes \(2 Conv, 1 NonZero\)"):
            OnnxTensorRtRuntime(threads=1).load(artefact(double()))

    def test_what_it_left_to_others_is_named(
        self, package: TensorRtPackage, caplog: pytest.LogCaptureFixture
    ):
        package.parts = [
            Part(TENSORRT, "Conv"),
            Part(CUDA, "Mul"),
            Part("CPUExecutionProvider", "If"),
        ]
        with caplog.at_level(logging.WARNING, "edged.runtimes"):
            made = OnnxTensorRtRuntime(threads=1).load(artefact(double()))
        assert "left 2 of 3 nodes to others, 1 of them to the CPU" in caplog.text
        assert made.placed == ({"Conv": 1, "Mul": 1}, {"If": 1})

    def test_libraries_that_pip_installed_are_tried_first(
        self, package: TensorRtPackage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        folder = tmp_path / "tensorrt_libs"
        folder.mkdir()
        (folder / "__init__.py").touch()
        for name in ("libnvonnxparser.so.10", "libnvinfer.so.10", "libother.so.1"):
            (folder / name).write_bytes(b"no library")
        monkeypatch.syspath_prepend(tmp_path)
        opened: list[str] = []
        monkeypatch.setattr("ctypes.CDLL", lambda path, _mode: opened.append(Path(path).name))
        found = iter(["libnvinfer.so.10 is not there", ""])
        monkeypatch.setattr(onnxruntime_cuda, "library_problem", lambda *_: next(found))
        assert OnnxTensorRtRuntime(threads=1).info().devices == ("cuda:0",)
        assert opened == ["libnvinfer.so.10", "libnvonnxparser.so.10"]


def load(model: TinyModel, device: FakeDevice) -> OnnxTensorRtSession:
    """Really run, on the CPU; see ``FakeDevice``."""

    class Runtime(OnnxRuntime):
        def _session(
            self, session: Any, artefact: Artefact, placed: Any, run_options: Any
        ) -> OnnxTensorRtSession:
            made = FakeBackendSession(session, device)
            return OnnxTensorRtSession(made, artefact, placed, run_options, Place("cuda", 0))

    session = Runtime(threads=1).load(artefact(model))
    assert isinstance(session, OnnxTensorRtSession)
    return session


class TestRows:
    """An engine takes 32 rows."""

    def test_more_run_in_parts(self):
        device = FakeDevice()
        x = np.arange(70 * 4, dtype="f4").reshape(70, 4)
        session = load(double(), device)
        np.testing.assert_array_equal(session.run({"x": x})["y"], x * 2)
        assert device.copies == (3, 3)
        got = session.run(Keeping({"x": x}, frozenset("y")))["y"]
        assert type(got) is np.ndarray
        assert session.run({"x": x[:MOST_ROWS]})["y"].shape == (MOST_ROWS, 4)

    def test_rows_that_belong_together_are_refused(self):
        model = double()
        whole = artefact(model)
        promised = Artefact("m", whole.data, whole.inputs, (TensorSpec("y", "float32", ("n", 4)),))
        session = OnnxTensorRtSession(
            ort.InferenceSession(model.data, providers=["CPUExecutionProvider"]),
            promised,
            None,
            None,
            Place("cpu", 0),
        )
        with pytest.raises(RunError, match="take 32 rows at most, not 33"):
            session.run({"x": np.zeros((33, 4), "f4")})
        assert session.run({"x": np.zeros((32, 4), "f4")})["y"].shape == (32, 4)

    def test_inputs_without_rows(self):
        assert load(scalar(), FakeDevice()).run({"x": np.float32(3).reshape(())})["y"].shape == ()


@pytest.mark.gpu
def test_same_numbers_as_the_cpu():
    runtime = OnnxTensorRtRuntime(threads=1)
    if problem := runtime.info().problem:
        pytest.skip(f"gpu: {problem}")
    model = two_inputs()
    here, there = OnnxRuntime(threads=1).load(artefact(model)), runtime.load(artefact(model))
    for rows in (1, 3, 40):
        inputs = model.sample(rows)
        for name, array in here.run(inputs).items():
            np.testing.assert_allclose(there.run(inputs)[name], array, rtol=1e-4, atol=1e-5)
    there.close()
