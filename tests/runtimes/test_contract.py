"""What every runtime keeps, over all that import here: the same answers for every tiny model.

A kind of artefact that is not listed in FILES fails here; a model that it cannot say is skipped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edged.errors import LoadError, RunError
from edged.runtimes.base import Artefact, Runtime
from edged.runtimes.registry import APART, ARTEFACT_KINDS, RUNTIME_NAMES, create_runtime
from edged.tensors import TensorSpec
from tests.models import TinyModel, all_models, classifier, double, scalar, two_inputs

FILES: dict[str, Callable[[TinyModel], bytes | None]] = {"onnx": lambda model: model.data}
"""For each kind of artefact, a tiny model as such a file; None where the kind cannot say it."""
REFUSED = {"openvino": {"double-float64", "with-function"}}
"""Models that a runtime says it does not take; its own tests hold the words."""
INSTALLED_FOR_ALL = {"openvino"}
"""Their packages are there for ``make test-all`` only."""
PARAMS = [
    pytest.param(name, marks=pytest.mark.frameworks if name in INSTALLED_FOR_ALL else ())
    for name in RUNTIME_NAMES
    # What takes nothing but whole folders that make texts has tests of its own for all this.
    if name not in APART and ARTEFACT_KINDS[name] != ("genai",)
]
"""Engines are made on the machine they run on: ``test_tensorrt.py`` runs every model on its fake."""


@pytest.fixture(params=PARAMS)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    made = create_runtime(request.param, threads=2)
    if problem := made.info().problem:
        pytest.skip(problem)
    return made


def artefact(runtime: Runtime, model: TinyModel, **changes: object) -> Artefact:
    data = FILES[ARTEFACT_KINDS[runtime.name][-1]](model)
    if data is None:
        pytest.skip(f"{runtime.name} cannot say {model.name}")
    made = Artefact(
        model.name,
        data,
        tuple(entry.spec() for entry in model.inputs),
        tuple(entry.spec() for entry in model.outputs),
    )
    return replace(made, **changes)


def test_info(runtime: Runtime):
    info = runtime.info()
    assert info.name == runtime.name
    assert info.version
    assert info.devices


@pytest.mark.parametrize("model", all_models(), ids=lambda m: m.name)
def test_model(runtime: Runtime, model: TinyModel):
    if model.name in REFUSED.get(runtime.name, ()):
        with pytest.raises(LoadError, match=runtime.name):
            runtime.load(artefact(runtime, model))
        return
    session = runtime.load(artefact(runtime, model))
    model.check(session)
    assert [spec.name for spec in session.inputs] == [entry.name for entry in model.inputs]
    assert [spec.dtype for spec in session.outputs] == [entry.dtype for entry in model.outputs]
    session.close()


def test_outputs_are_arrays_even_without_axes(runtime: Runtime):
    session = runtime.load(artefact(runtime, scalar()))
    for value in (np.array(3, "f4"), np.ones((), "f4")):
        got = session.run({"x": value})["y"]
        assert isinstance(got, np.ndarray)
        assert got.shape == ()
    session.close()


def test_outputs_in_the_order_of_the_signature_and_only_those(runtime: Runtime):
    model = classifier()
    label, probabilities = (entry.spec() for entry in model.outputs)
    session = runtime.load(artefact(runtime, model, outputs=(probabilities, label)))
    assert list(session.run(model.sample(2))) == ["probabilities", "label"]
    session = runtime.load(artefact(runtime, model, outputs=(probabilities,)))
    assert list(session.run(model.sample(2))) == ["probabilities"]


class TestInputsInAnyMemory:
    @pytest.fixture
    def rows(self) -> np.ndarray:
        return np.arange(12, dtype="f4").reshape(3, 4)

    def arrays(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        wide = np.zeros((3, 8), "f4")
        wide[:, ::2] = rows
        buffer = b"x" + rows.tobytes()
        read_only = rows.copy()
        read_only.flags.writeable = False
        return {
            "strided": wide[:, ::2],
            "fortran": np.asfortranarray(rows),
            "reversed": rows[::-1].copy()[::-1],
            "unaligned": np.frombuffer(buffer, "f4", offset=1).reshape(3, 4),
            "read-only": read_only,
            "broadcast": np.broadcast_to(rows, (3, 4)),
        }

    @pytest.mark.parametrize(
        "kind", ["strided", "fortran", "reversed", "unaligned", "read-only", "broadcast"]
    )
    def test_kind(self, runtime: Runtime, rows: np.ndarray, kind: str):
        array = self.arrays(rows)[kind]
        np.testing.assert_array_equal(array, rows)
        got = runtime.load(artefact(runtime, double())).run({"x": array})["y"]
        np.testing.assert_array_equal(got, rows * 2)

    def test_outputs_outlive_the_session(self, runtime: Runtime, rows: np.ndarray):
        session = runtime.load(artefact(runtime, double()))
        kept = [session.run({"x": rows + n})["y"] for n in range(20)]
        session.close()
        del session
        for n, array in enumerate(kept):
            np.testing.assert_array_equal(array, (rows + n) * 2)


class TestSignature:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"inputs": (TensorSpec("z", "float32", ("batch", 4)),)},
                r'promises inputs z.*has "x"',
            ),
            ({"outputs": (TensorSpec("z", "float32", ("batch", 4)),)}, r'outputs z.*has "y"'),
            ({"inputs": ()}, 'has "x"'),
            ({"inputs": (TensorSpec("x", "float64", ("batch", 4)),)}, r'"x" is float32\[batch,4\]'),
            (
                {"inputs": (TensorSpec("x", "float32", ("batch", 5)),)},
                r"promises float32\[batch,5\]",
            ),
            ({"inputs": (TensorSpec("x", "float32", ("batch",)),)}, r"promises float32\[batch\]"),
            ({"inputs": (TensorSpec("x", "float32", ("batch", "n")),)}, r"float32\[batch,n\]"),
            ({"outputs": (TensorSpec("y", "int64", ("batch", 4)),)}, r'output "y" is float32'),
        ],
    )
    def test_other_than_promised(self, runtime: Runtime, changes, message: str):
        with pytest.raises(LoadError, match=message):
            runtime.load(artefact(runtime, double(), **changes))

    def test_a_narrower_promise_is_fine(self, runtime: Runtime):
        spec = TensorSpec("x", "float32", (1, 4))
        runtime.load(artefact(runtime, double(), inputs=(spec,)))


class TestErrors:
    @pytest.mark.parametrize("data", [b"", b"hello", double().data[:50], bytes(1000)])
    def test_not_a_model(self, runtime: Runtime, data: bytes):
        with pytest.raises(LoadError, match="refuses it"):
            runtime.load(artefact(runtime, double(), data=data))

    @pytest.mark.parametrize(
        "inputs",
        [
            {},
            {"x": np.ones((1, 5), "f4")},
            {"x": np.ones((1, 4), "f8")},
            {"x": np.ones(4, "f4")},
            {"z": np.ones((1, 4), "f4")},
        ],
    )
    def test_failing_run_leaves_the_session_usable(self, runtime: Runtime, inputs):
        session = runtime.load(artefact(runtime, double()))
        with pytest.raises(RunError, match='model "double-float32" failed') as caught:
            session.run(inputs)
        assert "/" not in caught.value.message.replace("inputs/outputs", "")
        double().check(session)

    def test_closed(self, runtime: Runtime):
        session = runtime.load(artefact(runtime, double()))
        session.close()
        session.close()
        with pytest.raises(RunError, match="closed"):
            session.run(double().sample(1))


class TestBind:
    """A run from fixed memory to fixed memory; None where a runtime gains nothing by it."""

    def bound(self, runtime: Runtime, **outputs: np.ndarray) -> tuple:
        session = runtime.load(artefact(runtime, double()))
        memory = bytearray(100)
        x = np.ndarray((2, 4), np.float32, memory, 8)  # aligned to 8 bytes and no more
        y = outputs.get("y", np.zeros((2, 4), np.float32))
        run = session.bind({"x": x}, {"y": y})
        if run is None:
            session.close()
            pytest.skip(f"{runtime.name} binds nothing")
        return session, run, x, y

    def test_reads_and_writes_anew(self, runtime: Runtime):
        session, run, x, y = self.bound(runtime)
        for factor in (1, 2):
            x[...] = np.arange(8).reshape(2, 4) * factor
            run.run()
            np.testing.assert_array_equal(y, x * 2)
            np.testing.assert_array_equal(session.run({"x": x})["y"], y)
        session.close()

    def test_other_shapes_are_refused(self, runtime: Runtime):
        session, run, _, _ = self.bound(runtime, y=np.zeros((3, 4), np.float32))
        with pytest.raises(RunError):
            run.run()
        session.close()

    def test_closed(self, runtime: Runtime):
        session, run, x, y = self.bound(runtime)
        session.close()
        with pytest.raises(RunError):
            run.run()
        with pytest.raises(RunError):
            session.bind({"x": x}, {"y": y})


def test_runs_from_several_threads(runtime: Runtime):
    model = two_inputs()
    session = runtime.load(artefact(runtime, model))
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                model.check(session)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures


def test_estimate_grows_with_the_file(runtime: Runtime):
    small = runtime.estimate_bytes(artefact(runtime, double()))
    large = runtime.estimate_bytes(artefact(runtime, double(), data=bytes(1 << 20)))
    assert large - small >= 3 << 20
    beside = runtime.estimate_bytes(
        artefact(runtime, double(), sidecars={"w.data": bytes(1 << 20)})
    )
    assert beside - small >= 3 << 20
