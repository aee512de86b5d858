"""What every runtime keeps, over all that import here: the same answers for every tiny model.

What happens when things go wrong, or end, is ``test_contract_harm.py``.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edged.errors import LoadError, RunError
from edged.runtimes.base import Runtime
from edged.tensors import DTYPES, TensorSpec
from tests.models import TinyModel, all_models, classifier, double, image, same, scalar, two_inputs
from tests.runtimes.contract import EXAMPLE, REFUSED, artefact


def test_info(runtime: Runtime):
    info = runtime.info()
    assert info.name == runtime.name
    assert info.version
    assert info.devices
    assert runtime.info() == info


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(runtime: Runtime, dtype: str):
    """In and out as they are, and not the same memory: an output may be kept, an input reused."""
    model = same(dtype)
    if model.name in REFUSED.get(runtime.name, ()):
        with pytest.raises(LoadError, match=runtime.name):
            runtime.load(artefact(runtime, model))
        return
    session = runtime.load(artefact(runtime, model))
    inputs, wanted = model.golden(2)
    got = session.run(inputs)["y"]
    assert (got.dtype, got.shape) == (DTYPES[dtype].numpy, (2, 3))
    inputs["x"][...] = 1
    np.testing.assert_array_equal(got, wanted["y"])
    got[...] = 0
    np.testing.assert_array_equal(session.run(model.sample(2))["y"], wanted["y"])
    session.close()


@pytest.mark.parametrize("dtype", ["string", "bfloat16"])
def test_what_is_no_dtype_of_ours_is_refused_by_name(runtime: Runtime, dtype: str):
    specs = {"inputs": (TensorSpec("x", "float16", ("batch", 3)),),
             "outputs": (TensorSpec("y", "float16", ("batch", 3)),)}  # fmt: skip
    with pytest.raises(LoadError, match=rf'model "same-{dtype}": .*("x"|string|bfloat16)'):
        runtime.load(artefact(runtime, same(dtype), **specs))


def test_free_axes_take_any_length(runtime: Runtime):
    model = image()
    if model.name in REFUSED.get(runtime.name, ()):
        with pytest.raises(LoadError, match=runtime.name):
            runtime.load(artefact(runtime, model))
        return
    session = runtime.load(artefact(runtime, model))
    assert session.inputs[0].shape[1] == 3
    assert [isinstance(axis, str) for axis in session.inputs[0].shape] == [True, False, True, True]
    for shape in ((1, 3, 8, 5), (2, 3, 4, 7), (1, 3, 1, 1), (5, 3, 8, 5)):
        picture = np.arange(np.prod(shape), dtype="f4").reshape(shape)
        got = session.run({"image": picture})["brightness"]
        np.testing.assert_allclose(got, picture.mean((1, 2, 3), keepdims=True), rtol=1e-5)
    session.close()


def test_no_rows_at_all(runtime: Runtime):
    """Nothing in, nothing out, and what comes after is as ever."""
    session = runtime.load(artefact(runtime, double()))
    got = session.run({"x": np.zeros((0, 4), "f4")})["y"]
    assert (got.dtype, got.shape) == (np.float32, (0, 4))
    double().check(session)
    session.close()


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


class TestBind:
    """A run from fixed memory to fixed memory; None where a runtime gains nothing by it."""

    def bound(self, runtime: Runtime, **outputs: np.ndarray) -> tuple | None:
        session = runtime.load(artefact(runtime, double()))
        memory = bytearray(100)
        x = np.ndarray((2, 4), np.float32, memory, 8)  # aligned to 8 bytes and no more
        y = outputs.get("y", np.zeros((2, 4), np.float32))
        run = session.bind({"x": x}, {"y": y})
        if run is None:
            session.close()
            assert runtime.name == EXAMPLE, "the others gain by it"
            return None
        return session, run, x, y

    def test_reads_and_writes_anew(self, runtime: Runtime):
        if (bound := self.bound(runtime)) is None:
            return
        session, run, x, y = bound
        for factor in (1, 2):
            x[...] = np.arange(8).reshape(2, 4) * factor
            run.run()
            np.testing.assert_array_equal(y, x * 2)
            np.testing.assert_array_equal(session.run({"x": x})["y"], y)
        session.close()

    def test_other_shapes_are_refused(self, runtime: Runtime):
        if (bound := self.bound(runtime, y=np.zeros((3, 4), np.float32))) is None:
            return
        session, run, _, _ = bound
        with pytest.raises(RunError):
            run.run()
        session.close()

    def test_closed(self, runtime: Runtime):
        if (bound := self.bound(runtime)) is None:
            return
        session, run, x, y = bound
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
