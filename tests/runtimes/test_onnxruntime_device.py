"""Bound runs: for real with the CPU provider, and with a device whose copies are counted."""

from __future__ import annotations

import gc
import inspect
import logging
import threading
import time

import numpy as np
import pytest
from onnx import helper

from edged.errors import DeviceLostError, LoadError, RunError
from edged.manifest import TensorEntry
from edged.resident import Keeping, Resident, is_resident
from edged.runtimes.base import Artefact
from edged.runtimes.cuda import CudaMemoryError, open_cuda
from edged.runtimes.onnxruntime_cuda import OnnxCudaRuntime
from edged.runtimes.onnxruntime_device import OnnxDeviceSession
from tests.fakes.onnx_device import REAL, DeviceRuntime, FakeDevice, FakePins
from tests.models import TinyModel, all_models, classifier, double, onnx_bytes, two_inputs
from tests.runtimes.test_contract import (  # noqa: F401 - held here with this file's runtimes
    TestInputsInAnyMemory,
    TestSignature,
    test_every_dtype,
    test_free_axes_take_any_length,
    test_info,
    test_model,
    test_no_rows_at_all,
    test_outputs_are_arrays_even_without_axes,
    test_outputs_in_the_order_of_the_signature_and_only_those,
    test_runs_from_several_threads,
)
from tests.runtimes.test_contract_harm import (  # noqa: F401 - likewise
    TestClose,
    TestFiles,
    TestRuns,
)

KEEP_Y = frozenset("y")


@pytest.fixture(params=["cpu", "cpu, pinned", "pretended", "pretended, pinned"])
def runtime(request: pytest.FixtureRequest) -> DeviceRuntime:
    """For the contract."""
    device = FakeDevice() if "pretended" in request.param else None
    return DeviceRuntime(device, FakePins() if "pinned" in request.param else None)


def artefact(model: TinyModel) -> Artefact:
    return Artefact(
        model.name,
        model.data,
        tuple(entry.spec() for entry in model.inputs),
        tuple(entry.spec() for entry in model.outputs),
    )


def load(
    model: TinyModel,
    device: FakeDevice | None = None,
    pins: FakePins | None = None,
    lanes: int = 4,
) -> OnnxDeviceSession:
    return DeviceRuntime(device, pins, lanes).load(artefact(model))


X = np.arange(12, dtype="f4").reshape(3, 4)


@pytest.mark.parametrize("fake", list(REAL), ids=lambda fake: fake.__name__)
def test_the_pretended_device_takes_the_calls_of_the_package(fake: type):
    for name, member in vars(fake).items():
        if name.startswith("_") or not inspect.isfunction(member):
            continue
        ours = list(inspect.signature(member).parameters)
        theirs = list(inspect.signature(getattr(REAL[fake], name)).parameters)
        assert ours == theirs[: len(ours)]


class TestCopies:
    """How often tensors go between host and device."""

    def test_each_in_and_each_out(self):
        device = FakeDevice()
        load(two_inputs(), device).run(two_inputs().sample(2))
        assert device.copies == (2, 2)

    def test_none_between_two_models(self):
        device = FakeDevice()
        first, second = load(double(), device), load(double(factor=3), device)
        kept = first.run(Keeping({"x": X}, KEEP_Y))["y"]
        assert is_resident(kept)
        assert device.copies == (1, 0)
        got = second.run({"x": kept})["y"]
        assert device.copies == (1, 1)
        np.testing.assert_array_equal(got, X * 6)

    def test_a_batch_is_handed_on_as_a_whole(self):
        device = FakeDevice()
        first, second = load(double(), device), load(double(factor=3), device)
        kept = first.run(Keeping({"x": X}, KEEP_Y))["y"]
        rows = [kept[row : row + 1] for row in range(3)]
        got = second.run({"x": np.concatenate(rows)})["y"]
        np.testing.assert_array_equal(got, X * 6)
        np.testing.assert_array_equal(second.run({"x": rows[1]})["y"], X[1:2] * 6)
        assert device.copies == (1, 2)

    def test_only_what_is_asked_for_stays(self):
        device = FakeDevice()
        model = classifier()
        got = load(model, device).run(Keeping(model.sample(2), frozenset({"probabilities"})))
        wanted = model.reference(model.sample(2))
        assert type(got["label"]) is np.ndarray
        np.testing.assert_array_equal(got["label"], wanted["label"])
        assert device.copies == (1, 1)
        np.testing.assert_allclose(np.asarray(got["probabilities"]), wanted["probabilities"], 1e-4)
        assert device.copies == (1, 2)

    def test_from_another_device_by_way_of_the_host(self):
        here, there = FakeDevice(), FakeDevice("other")
        kept = load(double(), there).run(Keeping({"x": X}, KEEP_Y))["y"]
        assert kept.place == "other:0"
        np.testing.assert_array_equal(load(double(), here).run({"x": kept})["y"], X * 4)
        assert (there.copies, here.copies) == ((1, 1), (1, 1))


class TestLifetime:
    @pytest.mark.parametrize("device", [None, FakeDevice()], ids=["cpu", "pretended"])
    def test_what_is_kept_outlives_runs_and_the_session(self, device: FakeDevice | None):
        session = load(double(), device, FakePins())
        kept = [session.run(Keeping({"x": X + n}, KEEP_Y))["y"] for n in range(20)]
        session.close()
        del session
        gc.collect()
        second = load(double(factor=3), device)
        for n, tensor in enumerate(kept):
            assert is_resident(tensor)
            np.testing.assert_array_equal(np.asarray(tensor), (X + n) * 2)
            np.testing.assert_array_equal(second.run({"x": tensor[1:2]})["y"], (X[1:2] + n) * 6)

    def test_it_is_given_back_when_nobody_wants_it(self):
        device = FakeDevice()
        session = load(double(), device)
        kept = session.run(Keeping({"x": X}, KEEP_Y))["y"]
        row = kept[1:2]
        assert list(device.live.values()) == [X.nbytes]
        del kept
        assert device.live, "one of its rows is still there"
        del row
        assert not device.live

    def test_it_does_not_hold_on_to_the_inputs(self):
        device = FakeDevice()
        first, second = load(double(), device), load(double(), device)
        middle = first.run(Keeping({"x": X}, KEEP_Y))["y"]
        last = second.run(Keeping({"x": middle}, KEEP_Y))["y"]
        del middle
        assert len(device.live) == 1
        np.testing.assert_array_equal(np.asarray(last), X * 4)

    def test_from_a_device_that_is_gone_nothing_comes(self):
        device = FakeDevice()
        session = load(double(), device)
        kept = session.run(Keeping({"x": X}, KEEP_Y))["y"]
        device.fail = 1
        with pytest.raises(DeviceLostError, match="could not be fetched from its device"):
            np.asarray(kept)
        device.fail = 3
        with pytest.raises(DeviceLostError, match="unspecified launch failure"):
            session.run({"x": X})

    def test_an_address_that_is_no_more_ends_the_run(self):
        """Of the pretended device: it would not be seen otherwise."""
        device = FakeDevice()
        session = load(double(), device)
        kept = session.run(Keeping({"x": X}, KEEP_Y))["y"]
        device.live.clear()
        with pytest.raises(RunError, match="illegal memory access"):
            session.run({"x": kept})


class TestPinned:
    def test_taken_once_and_given_back(self):
        pins = FakePins()
        session = load(double(), FakeDevice(), pins)
        for rows in (3, 1, 2, 3):
            session.run({"x": X[:rows]})
        assert pins.taken == 2
        session.run({"x": np.tile(X, (2, 1))})
        assert (pins.taken, len(pins.live)) == (4, 2)
        session.close()
        assert not pins.live

    def test_answers_are_not_written_over_by_the_next_run(self):
        session = load(double(), None, FakePins())
        first = session.run({"x": X})["y"]
        session.run({"x": X + 100})
        session.close()
        np.testing.assert_array_equal(first, X * 2)

    def test_a_run_of_the_same_shapes_needs_no_new_binding(self):
        device = FakeDevice()
        session = load(double(), device, FakePins())
        for n in range(4):
            np.testing.assert_array_equal(session.run({"x": X + n})["y"], (X + n) * 2)
        assert (device.bindings, device.copies) == (1, (4, 4))
        session.run({"x": X[:1]})
        np.testing.assert_array_equal(session.run({"x": X})["y"], X * 2)
        assert device.bindings == 3
        kept = session.run(Keeping({"x": X}, KEEP_Y))["y"]
        np.testing.assert_array_equal(session.run({"x": kept})["y"], X * 4)
        np.testing.assert_array_equal(session.run({"x": X[:, ::-1]})["y"], X[:, ::-1] * 2)

    @pytest.mark.parametrize("wrong", [{}, {"x": X.astype("f8")}, {"x": X, "z": X}, {"z": X}])
    def test_what_does_not_fit_is_refused_there_too(self, wrong: dict):
        session = load(double(), None, FakePins())
        for _ in range(2):
            session.run({"x": X})
        with pytest.raises(RunError, match="failed while running: "):
            session.run(wrong)
        np.testing.assert_array_equal(session.run({"x": X})["y"], X * 2)

    def test_a_binding_that_fails_once_is_made_anew(self):
        device = FakeDevice()
        session = load(double(), device, FakePins())
        session.run({"x": X})
        device.fail = 1
        np.testing.assert_array_equal(session.run({"x": X + 1})["y"], (X + 1) * 2)
        assert device.bindings == 2

    def test_without_any_left_the_numbers_are_the_same(self):
        session = load(double(), None, FakePins(fails=CudaMemoryError))
        np.testing.assert_array_equal(session.run({"x": X})["y"], X * 2)


class TestLanes:
    def test_who_waits_is_told_that_it_is_closed(self):
        session = load(double(), lanes=1)
        lane = session._lanes.take()
        said: list[str] = []

        def work() -> None:
            try:
                session.run({"x": X})
            except RunError as exc:
                said.append(exc.message)

        waiting = threading.Thread(target=work)
        waiting.start()
        while not session._lanes._guard._waiters:
            time.sleep(0.001)
        session.close()
        waiting.join(30)
        session._lanes.give(lane)
        assert said == ['model "double-float32" failed while running: the session is closed']


def longer(promise: str) -> TinyModel:
    """Gives twice the rows it is given, under a name of an axis that may say otherwise."""
    x = TensorEntry("x", "float32", ("batch", 4))
    inside, outside = (TensorEntry("y", "float32", (name, 4)) for name in ("more", promise))
    node = helper.make_node("Concat", ["x", "x"], ["y"], axis=0)
    return TinyModel(
        "longer",
        onnx_bytes([node], [x], [inside]),
        (x,),
        (outside,),
        lambda inputs: {"y": np.concatenate([inputs["x"], inputs["x"]])},
        lambda rows: {"x": X[:rows]},
    )


@pytest.mark.parametrize("promise", ["more", "batch"])
@pytest.mark.parametrize("device", [None, FakeDevice()], ids=["cpu", "pretended"])
def test_an_output_whose_length_is_not_what_one_expects(
    promise: str, device: FakeDevice | None, caplog: pytest.LogCaptureFixture
):
    session = load(longer(promise), device, FakePins())
    with caplog.at_level(logging.INFO, "edged.runtimes"):
        longer(promise).check(session)
    assert ("found out by each run" in caplog.text) == (promise == "batch")


@pytest.mark.gpu
class TestRealDevice:
    @pytest.fixture
    def runtime(self) -> OnnxCudaRuntime:
        made = OnnxCudaRuntime(threads=1)
        if problem := made.info().problem:
            pytest.skip(f"gpu: {problem}")
        return made

    @pytest.mark.parametrize("model", all_models(), ids=lambda m: m.name)
    def test_every_model_again_and_again(self, runtime: OnnxCudaRuntime, model: TinyModel):
        try:
            session = runtime.load(artefact(model))
        except LoadError as exc:
            pytest.skip(exc.message)  # operators of types that no GPU has; its own tests hold that
        for _ in range(3):
            model.check(session)

    def test_a_tensor_stays_there_and_its_memory_comes_back(self, runtime: OnnxCudaRuntime):
        first = runtime.load(artefact(double()))
        second = runtime.load(artefact(double(factor=3)))
        x = np.arange(1 << 20, dtype="f4").reshape(-1, 4)

        def free() -> int:
            cuda = open_cuda()
            cuda.use()
            return cuda.memory()[0]

        seen = []
        for n in range(20):
            kept = first.run(Keeping({"x": x + n}, KEEP_Y))["y"]
            assert is_resident(kept)
            assert kept.place == "cuda:0"
            np.testing.assert_array_equal(second.run({"x": kept})["y"], (x + n) * 6)
            np.testing.assert_array_equal(second.run({"x": kept[7:9]})["y"], (x[7:9] + n) * 6)
            np.testing.assert_array_equal(np.asarray(kept[7:9]), (x[7:9] + n) * 2)
            del kept
            seen.append(free())
        assert seen[5] - seen[-1] <= 4 * x.nbytes, seen

    def test_it_outlives_its_session(self, runtime: OnnxCudaRuntime):
        session = runtime.load(artefact(double()))
        kept = session.run(Keeping({"x": X}, KEEP_Y))["y"]
        session.close()
        del session
        gc.collect()
        np.testing.assert_array_equal(np.asarray(kept), X * 2)


@pytest.mark.parametrize("model", all_models(), ids=lambda m: m.name)
def test_every_output_of_every_model_may_stay(model: TinyModel):
    names = frozenset(entry.name for entry in model.outputs)
    inputs, wanted = model.golden(2)
    got = load(model).run(Keeping(inputs, names))
    for name, array in wanted.items():
        tensor = got[name]
        assert type(tensor) is Resident
        assert (tensor.dtype, tensor.shape) == (array.dtype, array.shape)
        np.testing.assert_allclose(np.asarray(tensor), array, 1e-3, 1e-4)
