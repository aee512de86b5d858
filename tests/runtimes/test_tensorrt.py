"""Running engines: the models of every runtime, and what only TensorRT can do wrong."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from edged.errors import LoadError, RunError
from edged.runtimes import tensorrt
from edged.runtimes.base import Artefact
from edged.runtimes.cuda import Cuda
from edged.runtimes.cuda_bindings import CudaBindings
from edged.runtimes.cuda_pycuda import PyCuda
from edged.runtimes.engine import BuildOptions, Engine, Host, decode, sha256
from edged.runtimes.tensorrt import TensorRtRuntime, TensorRtSession
from edged.runtimes.tensorrt_api import TensorRt
from edged.runtimes.tensorrt_build import build_engine
from edged.tensors import TensorSpec
from tests.fakes import tensorrt as fake
from tests.fakes.gpu import FakeBindings, FakeGpu, FakePyCuda
from tests.models import TinyModel, all_models, classifier, double, two_inputs


class Stand:
    """A runtime over a GPU in memory, and engines built there."""

    def __init__(self, release: str = "10.3", cuda: str = "cuda-bindings", lanes: int = 2) -> None:
        self.gpu = FakeGpu()
        self.trt = TensorRt(fake.module(release, self.gpu), "TensorRT", f"{release}.0")
        self.cuda: Cuda = (
            CudaBindings(0, FakeBindings(self.gpu))
            if cuda == "cuda-bindings"
            else PyCuda(0, FakePyCuda(self.gpu))
        )
        self.runtime = TensorRtRuntime(trt=self.trt, cuda=self.cuda, lanes=lanes)

    def artefact(self, model: TinyModel) -> Artefact:
        return Artefact(
            model.name,
            model.data,
            tuple(entry.spec() for entry in model.inputs),
            tuple(entry.spec() for entry in model.outputs),
        )

    def engine(self, model: TinyModel) -> Artefact:
        made = self.artefact(model)
        axes = {"height": (1, 8, 16), "width": (1, 8, 16)}
        built = build_engine(self.trt, self.runtime.host(), made, BuildOptions(axes=axes))
        return replace(made, data=built.engine.encode())

    def session(self, model: TinyModel) -> TensorRtSession:
        return self.runtime.load(self.engine(model))


@pytest.fixture
def stand() -> Stand:
    return Stand()


TAKEN = [m for m in all_models() if not m.name.endswith(("float64", "uint32", "uint64"))]
"""TensorRT has no such types."""


@pytest.mark.parametrize("cuda", ["cuda-bindings", "pycuda"])
@pytest.mark.parametrize("release", fake.RELEASES)
@pytest.mark.parametrize("model", TAKEN, ids=lambda m: m.name)
def test_every_model_on_every_release_through_both_ways_to_cuda(
    model: TinyModel, release: str, cuda: str
):
    stand = Stand(release, cuda)
    session = stand.session(model)
    model.check(session)
    assert [spec.name for spec in session.inputs] == [entry.name for entry in model.inputs]
    session.close()
    session.close()
    assert not stand.gpu.memory
    assert not stand.gpu.host


def test_outputs_are_the_callers_to_keep(stand: Stand):
    session = stand.session(double())
    first = session.run({"x": np.ones((1, 4), "f4")})["y"]
    session.run({"x": np.full((1, 4), 5, "f4")})
    np.testing.assert_array_equal(first, np.full((1, 4), 2))


def test_it_binds_nothing(stand: Stand):
    x = np.ones((1, 4), "f4")
    assert stand.session(double()).bind({"x": x}, {"y": x.copy()}) is None


def test_inputs_in_any_memory(stand: Stand):
    session = stand.session(double())
    rows = np.arange(12, dtype="f4").reshape(3, 4)
    for array in (np.asfortranarray(rows), np.repeat(rows, 2, 1)[:, ::2], rows[::-1].copy()[::-1]):
        np.testing.assert_array_equal(session.run({"x": array})["y"], rows * 2)


class TestLanes:
    def test_threads_have_contexts_of_their_own(self):
        """The fake's contexts refuse to run twice at once."""
        stand = Stand(lanes=3)
        model = two_inputs()
        session = stand.session(model)
        failures: list[BaseException] = []

        def work() -> None:
            try:
                for _ in range(15):
                    model.check(session)
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failures
        assert stand.gpu.calls.count("create_execution_context") <= 3
        session.close()
        assert not stand.gpu.memory

    def test_a_lane_that_cannot_be_made_is_not_counted(self):
        stand = Stand(lanes=2)
        session = stand.session(double())
        held = session._take()
        stand.gpu.fail = {"cudaMalloc": 2}
        with pytest.raises(RunError, match="out of memory"):
            session.run({"x": np.ones((1, 4), "f4")})
        double().check(session)
        session._give(held)

    def test_half_a_lane_is_given_back(self, stand: Stand):
        made = stand.engine(double())
        stand.gpu.fail = {"cudaHostAlloc": 2}
        with pytest.raises(
            LoadError, match=r'^model "double-float32": cudaHostAlloc failed: out of memory'
        ):
            stand.runtime.load(made)
        assert stand.gpu.is_empty


class TestWrongEngines:
    @pytest.mark.parametrize("name", Host.__struct_fields__)
    def test_built_elsewhere(self, stand: Stand, name: str):
        """Refused before TensorRT sees it: its plan is not even loaded."""
        made = stand.engine(double())
        engine = decode(made.data)
        value = 99 if name == "processors" else "other"
        host = msgspec.structs.replace(engine.fingerprint.host, **{name: value})
        moved = Engine(msgspec.structs.replace(engine.fingerprint, host=host), engine.plan)
        stand.trt.module.Runtime = None
        with pytest.raises(
            LoadError, match=f"was built for {name.replace('_', ' ')} .*build it again"
        ):
            stand.runtime.load(replace(made, data=moved.encode()))

    def test_a_plan_that_tensorrt_refuses_comes_with_its_words(self, stand: Stand):
        made = stand.engine(double())
        fingerprint = decode(made.data).fingerprint
        plan = b"not a plan"
        changed = msgspec.structs.replace(
            fingerprint, plan_sha256=sha256(plan), plan_bytes=len(plan)
        )
        with pytest.raises(LoadError, match="refuses the engine: Version tag does not match Note:"):
            stand.runtime.load(replace(made, data=Engine(changed, plan).encode()))

    @pytest.mark.parametrize("data", [b"", b"hello", double().data])
    def test_no_engine(self, stand: Stand, data: bytes):
        with pytest.raises(LoadError, match=r'^model "double-float32": this is no engine file'):
            stand.runtime.load(replace(stand.artefact(double()), data=data))

    def test_another_signature(self, stand: Stand):
        made = stand.engine(double())
        for spec, words in (
            (TensorSpec("z", "float32", ("batch", 4)), 'has "x"'),
            (TensorSpec("x", "float16", ("batch", 4)), r'"x" is float32\[batch,4\]'),
            (TensorSpec("x", "float32", ("batch", 5)), r"promises float32\[batch,5\]"),
            (TensorSpec("x", "float32", ("batch",)), r"promises float32\[batch\]"),
        ):
            with pytest.raises(LoadError, match=words):
                stand.runtime.load(replace(made, inputs=(spec,)))

    def test_an_output_as_long_as_the_data_says(self, stand: Stand):
        from onnx import helper

        from tests.models import onnx_bytes

        x, y = double().inputs[0], replace_name(double().outputs[0], "unknown")
        data = onnx_bytes([helper.make_node("Identity", ["x"], ["unknown"])], [x], [y], {})
        model = replace(double(), data=data, outputs=(y,))
        with pytest.raises(LoadError, match='how long output "unknown" is depends on the data'):
            stand.session(model)


def replace_name(entry: Any, name: str) -> Any:
    return msgspec.structs.replace(entry, name=name)


class TestFailingRuns:
    @pytest.mark.parametrize(
        ("inputs", "words"),
        [
            ({}, 'it takes "x"'),
            ({"z": np.ones((1, 4), "f4")}, 'it takes "x"'),
            ({"x": np.ones((1, 4), "f8")}, r'input "x" is float64\[1, 4\], not float32\[batch,4\]'),
            ({"x": np.ones(4, "f4")}, "not float32"),
            (
                {"x": np.ones((9, 4), "f4")},
                r"is \[9, 4\]; the engine was built for \[1, 4\] to \[8, 4\]",
            ),
            ({"x": np.ones((0, 4), "f4")}, r"is \[0, 4\]; the engine was built for"),
        ],
    )
    def test_inputs_that_do_not_fit(self, stand: Stand, inputs: Any, words: str):
        session = stand.session(double())
        with pytest.raises(RunError, match=words):
            session.run(inputs)
        double().check(session)

    def test_a_launch_that_fails_has_tensorrts_words(self, stand: Stand):
        session = stand.session(double())
        stand.gpu.fail = {"execute_async_v3": 1}
        with pytest.raises(
            RunError, match=r'^model "double-float32" failed while running: an illegal memory'
        ):
            session.run({"x": np.ones((1, 4), "f4")})

    def test_a_gpu_that_fails_is_heard(self, stand: Stand):
        session = stand.session(double())
        stand.gpu.fail = {"cudaStreamSynchronize": 719}
        with pytest.raises(
            RunError, match=r"cudaStreamSynchronize failed: unknown error \(status 719\)"
        ):
            session.run({"x": np.ones((1, 4), "f4")})

    def test_closed(self, stand: Stand):
        session = stand.session(double())
        session.close()
        with pytest.raises(RunError, match="closed"):
            session.run(double().sample(1))

    def test_closing_while_a_run_is_under_way(self, stand: Stand):
        session = stand.session(double())
        lane = session._take()
        session.close()
        assert stand.gpu.memory
        session._give(lane)
        assert not stand.gpu.memory


class TestNarrowIntegers:
    """TensorRT 8 computes 64-bit integers in 32 bits."""

    def narrowed(self, stand: Stand) -> TensorRtSession:
        model = double("int32")
        made = stand.engine(model)
        specs = {
            side: (TensorSpec(name, "int64", ("batch", 4)),)
            for side, name in (("inputs", "x"), ("outputs", "y"))
        }
        return stand.runtime.load(replace(made, **specs))

    def test_values_that_fit(self, stand: Stand):
        got = self.narrowed(stand).run({"x": np.arange(4).reshape(1, 4)})["y"]
        assert got.dtype == np.int64
        np.testing.assert_array_equal(got, [[0, 2, 4, 6]])

    def test_values_that_do_not(self, stand: Stand):
        with pytest.raises(RunError, match="has numbers that int32 does not hold"):
            self.narrowed(stand).run({"x": np.full((1, 4), 1 << 40)})


def test_info(stand: Stand):
    info = stand.runtime.info()
    assert (info.name, info.version, info.devices) == ("tensorrt", "10.3.0", ("cuda:0",))


def test_info_without_a_driver(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "edged.runtimes.tensorrt.driver_problem", lambda: "no NVIDIA driver is installed"
    )
    assert TensorRtRuntime().info().problem == "no NVIDIA driver is installed"


def test_estimate_grows_with_the_engine(stand: Stand):
    small, large = stand.artefact(double()), stand.artefact(classifier())
    more = replace(large, data=bytes(1 << 20))
    assert stand.runtime.estimate_bytes(more) - stand.runtime.estimate_bytes(small) > 1 << 20


class TestControls:
    """Each refusal switched off once: what would get through."""

    def test_an_engine_of_another_gpu_would_run(
        self, stand: Stand, monkeypatch: pytest.MonkeyPatch
    ):
        made = stand.engine(double())
        engine = decode(made.data)
        host = msgspec.structs.replace(engine.fingerprint.host, compute_capability="9.9")
        moved = Engine(msgspec.structs.replace(engine.fingerprint, host=host), engine.plan)
        monkeypatch.setattr(tensorrt, "check_host", lambda *_: None)
        double().check(stand.runtime.load(replace(made, data=moved.encode())))

    def test_a_number_that_is_too_large_would_come_back_as_another(
        self, stand: Stand, monkeypatch: pytest.MonkeyPatch
    ):
        session = TestNarrowIntegers().narrowed(stand)
        monkeypatch.setattr(tensorrt.np, "array_equal", lambda *_: True)
        got = session.run({"x": np.full((1, 4), (1 << 40) + 3)})["y"]
        np.testing.assert_equal(got, np.full((1, 4), 6))

    def test_the_driver_is_asked_before_anything_of_tensorrt_is_touched(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Without a driver the package crashes; nothing catches that."""
        touched: list[str] = []

        def find() -> TensorRt:
            touched.append("tensorrt")
            raise LoadError("touched")

        monkeypatch.setattr(tensorrt, "find_tensorrt", find)
        monkeypatch.setattr(tensorrt, "driver_problem", lambda: "no driver")
        with pytest.raises(LoadError, match="no driver"):
            TensorRtRuntime().open()
        assert not touched
        monkeypatch.setattr(tensorrt, "driver_problem", lambda: "")
        with pytest.raises(LoadError, match="touched"):
            TensorRtRuntime().open()
        assert touched == ["tensorrt"]
