"""A compiled model of OpenVINO: ONNX Runtime's answers, and no input but what it takes."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edged.errors import RunError
from edged.runtimes.base import Session
from edged.runtimes.onnxruntime import OnnxRuntime
from edged.runtimes.openvino_session import OpenVinoSession
from tests.models import TinyModel, all_models, classifier, double, image
from tests.runtimes.test_openvino import artefact, load, small_cnn

pytestmark = pytest.mark.frameworks

ROWS = (1, 2, 3, 32)


class TestSameAnswers:
    """One file on both runtimes; a free batch axis at 1, 2, 3 and many."""

    @pytest.mark.parametrize(
        "model",
        [m for m in all_models() if m.name not in ("double-float64", "with-function")]
        + [small_cnn(quantised=False)],
        ids=lambda m: m.name,
    )
    def test_floats(self, model: TinyModel):
        other: Session = OnnxRuntime(threads=1).load(artefact(model))
        session = load(model)
        for rows in ROWS:
            inputs = model.sample(rows)
            got, wanted = session.run(inputs), other.run(inputs)
            assert list(got) == list(wanted)
            for name, array in wanted.items():
                assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
                # Twenty times closer than bfloat16 comes.
                np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5)

    def test_int8(self):
        model = small_cnn(quantised=True)
        other = OnnxRuntime(threads=1).load(artefact(model))
        session = load(model)
        for rows in ROWS:
            inputs = model.sample(rows)
            got, wanted = session.run(inputs)["y"], other.run(inputs)["y"]
            # A value between two steps may be rounded either way; a step is 8/255 times a weight.
            np.testing.assert_allclose(got, wanted, atol=8 / 255)
            assert np.corrcoef(got.ravel(), wanted.ravel())[0, 1] > 0.999

    def test_rows_do_not_depend_on_their_neighbours(self):
        model = small_cnn(quantised=False)
        session = load(model)
        inputs = model.sample(5)
        whole = session.run(inputs)["y"]
        for row in range(5):
            alone = session.run({"x": inputs["x"][row : row + 1]})["y"]
            np.testing.assert_allclose(alone[0], whole[row], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "value"), [("int64", 2**31), ("int64", -(2**31) - 1), ("uint64", 2**31)]
)
def test_numbers_beyond_32_bits_are_refused(dtype: str, value: int):
    session = load(double(dtype, factor=1))
    for most in (2**31 - 1, 0):
        x = np.full((2, 4), most, dtype)
        np.testing.assert_array_equal(session.run({"x": x})["y"], x)
    x[1, 3] = value
    with pytest.raises(RunError, match='"x" has numbers that int32 does not hold'):
        session.run({"x": x})
    assert session.run({"x": np.zeros((0, 4), dtype)})["y"].shape == (0, 4)


def test_sessions_side_by_side_and_closed_while_they_run():
    models = [classifier(), image()]
    sessions = [load(model, threads=1) for model in models]
    failures: list[BaseException] = []
    started = threading.Barrier(9)

    def work(model: TinyModel, session: OpenVinoSession) -> None:
        try:
            model.check(session)
            started.wait(60)
            while True:
                model.check(session)
        except RunError as exc:
            if "the session is closed" not in exc.message:
                failures.append(exc)
        except BaseException as exc:
            failures.append(exc)

    pairs = list(zip(models, sessions, strict=True)) * 4
    threads = [threading.Thread(target=work, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    started.wait(60)
    for session in sessions:
        session.close()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not failures
    assert not any(session._idle for session in sessions)


def test_a_run_that_ends_after_the_close_keeps_nothing():
    session = load(double())
    take = session._take

    def taken_and_closed() -> object:
        request = take()
        session.close()
        return request

    session._take = taken_and_closed  # type: ignore[method-assign]
    assert session.run(double().sample(1))["y"].shape == (1, 4)
    assert not session._idle


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((1, 5), "f4"), r'"x" is float32\[1, 5\], not float32\[batch,4\]'),
        (np.ones(4, "f4"), r'"x" is float32\[4\], not float32\[batch,4\]'),
        (np.ones((1, 4), "f8"), r'"x" is float64\[1, 4\], not float32\[batch,4\]'),
    ],
)
def test_says_what_an_input_is_and_what_it_takes(x: np.ndarray, message: str):
    session = load(double())
    for _ in range(2):
        with pytest.raises(RunError, match=message):
            session.run({"x": x})
    double().check(session)


class TestBind:
    @pytest.mark.parametrize(
        "model",
        [m for m in all_models() if m.name not in ("double-float64", "with-function")],
        ids=lambda m: m.name,
    )
    def test_every_model(self, model: TinyModel):
        session = load(model)
        inputs, wanted = model.golden(3)
        inputs = {name: np.array(array) for name, array in inputs.items()}
        outputs = {name: np.zeros(array.shape, array.dtype) for name, array in wanted.items()}
        run = session.bind(inputs, outputs)
        if {array.dtype.name for array in inputs.values()} & {"int64", "uint64"}:
            assert run is None  # they are looked at before each run
            return
        assert run is not None
        run.run()
        for name, array in wanted.items():
            np.testing.assert_allclose(outputs[name], array, rtol=1e-3, atol=1e-4)

    def test_memory_it_does_not_take(self):
        session = load(double())
        x = np.zeros((2, 4), "f4")
        odd = np.frombuffer(bytes(33), "f4", offset=1, count=8).reshape(2, 4)
        assert session.bind({"x": odd}, {"y": x.copy()}) is None

    def test_a_run_closed_under_way(self):
        session = load(double())
        run = session.bind({"x": np.zeros((2, 4), "f4")}, {"y": np.zeros((2, 4), "f4")})
        assert run is not None
        session.close()
        with pytest.raises(RunError, match="the session is closed"):
            run.run()
