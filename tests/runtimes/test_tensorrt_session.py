"""Runs of a loaded engine: lanes, inputs, and what goes wrong while one is under way."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edged.errors import DeviceLostError, LoadError, RunError
from edged.runtimes import tensorrt_session
from edged.runtimes.tensorrt_session import TensorRtSession
from edged.tensors import TensorSpec
from tests.fakes.tensorrt_stand import Stand
from tests.models import double, scalar, two_inputs


@pytest.fixture
def stand() -> Stand:
    return Stand()


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

    def test_a_lane_that_cannot_be_made_is_done_without(self):
        """One run after another is slower than two at once, and no reason to fail."""
        stand = Stand(lanes=2)
        session = stand.session(double())
        held = session._take()
        stand.gpu.fail = {"cudaMalloc": 2}
        answers: list[dict[str, Any]] = []
        x = np.ones((1, 4), "f4")
        waiting = threading.Thread(target=lambda: answers.append(session.run({"x": x})))
        waiting.start()
        while "cudaMalloc" in stand.gpu.fail:
            assert waiting.is_alive()
            time.sleep(0.001)
        session._give(held)
        waiting.join(60)
        np.testing.assert_array_equal(answers[0]["y"], x * 2)
        double().check(session)
        assert stand.count("create_execution_context") == [2]
        session.close()
        assert stand.gpu.is_empty

    def test_a_context_that_is_not_given_is_done_without_too(self):
        stand = Stand("8.6")
        stand.trt.module.PreviewFeature = None
        session = stand.session(double())
        held = session._take()
        waiting = threading.Thread(target=double().check, args=(session,))
        waiting.start()
        while session._most > 1:
            assert waiting.is_alive()
            time.sleep(0.001)
        session._give(held)
        waiting.join(60)
        assert not waiting.is_alive()

    def test_half_a_lane_is_given_back(self, stand: Stand):
        made = stand.engine(double())
        stand.gpu.fail = {"cudaHostAlloc": 2}
        with pytest.raises(
            LoadError, match=r'^model "double-float32": cudaHostAlloc failed: out of memory'
        ):
            stand.runtime.load(made)
        assert stand.gpu.is_empty


class TestRows:
    """An engine was built for so many rows; a batch has as many as it likes."""

    @pytest.mark.parametrize("rows", [1, 8, 9, 16, 21])
    def test_more_than_it_was_built_for_run_in_parts(self, stand: Stand, rows: int):
        stand.runtime._has_graphs = False
        x = np.arange(4 * rows, dtype="f4").reshape(rows, 4)
        got = stand.session(double(), max_batch=8).run({"x": x})["y"]
        np.testing.assert_array_equal(got, x * 2)
        assert stand.count("execute_async_v3") == [-(-rows // 8)]

    def test_what_does_not_belong_together_by_rows_is_not_cut(self, stand: Stand):
        session = stand.session(scalar())
        assert session._parts({"x": np.ones((), "f4")}) is None

    def test_inputs_of_different_numbers_of_rows_are_not_cut(self, stand: Stand):
        model = two_inputs()
        sample = {name: np.repeat(a[:1], 9, 0) for name, a in model.sample(1).items()}
        first = next(iter(sample))
        sample[first] = sample[first][:8]
        with pytest.raises(RunError, match="no profile of the engine holds"):
            stand.session(model).run(sample)

    def test_the_profile_that_fits_best_is_taken(self, stand: Stand):
        session = stand.session(double(), exact=(1, 4))
        taken = []
        honest = stand.trt.module.IExecutionContext.set_optimization_profile_async

        def note(context: Any, profile_index: int, stream_handle: int) -> bool:
            taken.append(profile_index)
            return honest(context, profile_index, stream_handle)

        stand.trt.module.IExecutionContext.set_optimization_profile_async = note
        for rows in (3, 1, 4, 8, 2, 1):
            x = np.full((rows, 4), rows, "f4")
            np.testing.assert_array_equal(session.run({"x": x})["y"], x * 2)
        assert taken == [1, 2, 0, 1], "the first is the context's own; what is set stays"


class TestAccelerator:
    """A Jetson's DLA: one number of rows, half precision, and the rest on the GPU."""

    @pytest.mark.parametrize("rows", [1, 3, 4, 9])
    def test_batches_are_filled_up_to_its_rows(self, rows: int):
        stand = Stand("10.3", dla=2)
        session = stand.session(double("float16"), dla=1, max_batch=4)
        assert session.fingerprint.placed == {"dla": 1, "gpu": 0}
        x = np.arange(4 * rows, dtype="f2").reshape(rows, 4)
        np.testing.assert_array_equal(session.run({"x": x})["y"], x * 2)
        session.close()
        assert stand.gpu.is_empty

    def test_one_for_a_core_that_is_not_there_is_not_loaded(self):
        made = Stand("10.3", dla=2).engine(double("float16"), dla=1, max_batch=1)
        small = Stand("10.3", dla=1)
        with pytest.raises(LoadError, match=r"for core 1 of a deep .* this device has 1"):
            small.runtime.load(made)
        assert small.count("deserialize_cuda_engine") == [0]

    def test_the_engine_brings_no_code_of_its_own(self, stand: Stand):
        runtime = stand.session(double())._runtime
        assert (runtime.engine_host_code_allowed, runtime.tempfile_control_flags) == (False, 0)


class TestFailingRuns:
    @pytest.mark.parametrize(
        ("inputs", "words"),
        [
            ({}, 'it takes "x"'),
            ({"z": np.ones((1, 4), "f4")}, 'it takes "x"'),
            ({"x": np.ones((1, 4), "f8")}, r'input "x" is float64\[1, 4\], not float32\[batch,4\]'),
            ({"x": np.ones(4, "f4")}, "not float32"),
            (
                {"x": np.ones((1, 5), "f4")},
                r"is \[1, 5\]; the engine was built for \[1, 4\] to \[8, 4\]",
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
            DeviceLostError,
            match=r'^model "double-float32" failed while running: an illegal memory',
        ):
            session.run({"x": np.ones((1, 4), "f4")})

    def test_a_gpu_that_fails_is_heard(self, stand: Stand):
        session = stand.session(double())
        stand.gpu.fail = {"cudaStreamSynchronize": 719}
        with pytest.raises(
            DeviceLostError, match=r"cudaStreamSynchronize failed: unknown error \(status 719\)"
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

    def test_a_number_that_is_too_large_would_come_back_as_another(
        self, stand: Stand, monkeypatch: pytest.MonkeyPatch
    ):
        session = TestNarrowIntegers().narrowed(stand)
        monkeypatch.setattr(tensorrt_session.np, "array_equal", lambda *_: True)
        got = session.run({"x": np.full((1, 4), (1 << 40) + 3)})["y"]
        np.testing.assert_equal(got, np.full((1, 4), 6))
