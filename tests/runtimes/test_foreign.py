"""A package's runtime from outside: what it is, and that nothing of its kind of trouble leaves it."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.errors import LoadError, RunError
from edged.runtimes.base import Artefact, RuntimeInfo, Session
from edged.runtimes.foreign import ForeignRuntime, describe
from edged.runtimes.installed import Offer
from edged.tensors import TensorSpec
from tests.fakes.packages import write_package

HEAD = """
from edged.runtimes.base import RuntimeInfo
class R:
    kinds = ("onnx", "of-tomorrow")
    device = "cpu"
    def __init__(self, *, threads): pass
    def info(self): return RuntimeInfo("r", "3.1", ("cpu", "npu"), note="by hand")
    def estimate_bytes(self, artefact): return 5
    def load(self, artefact): raise ValueError("not /opt/secret/today")
"""
X, Y = TensorSpec("x", "float32", ("batch", 2)), TensorSpec("y", "float32", ("batch", 2))
ARTEFACT = Artefact("gate", bytes(100), (X,), (Y,))
_numbers = count()


@pytest.fixture
def put(tmp_path: Path, monkeypatch):
    """Install a package, under a new name each time, that gives runtime ``r``."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def put(source: str, **more: Any) -> str:
        names.append(f"pack{next(_numbers)}")
        write_package(tmp_path, names[-1], source, {"r": f"{names[-1]}:R"}, **more)
        return names[-1]

    yield put
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import not_there", " 1.0 is installed and needs not_there, which is not"),
        ("raise ValueError('of a kind')", "does not import (ValueError: of a kind)"),
        ("raise SystemExit('bye')", "does not import (SystemExit: bye)"),
        ("x = 1", "does not import (AttributeError"),
        (HEAD.replace('("onnx", "of-tomorrow")', '("of-tomorrow",)'), "is no runtime of this"),
        (HEAD.replace('("onnx", "of-tomorrow")', '"onnx"'), "is no runtime of this edged"),
        (HEAD.replace("*, threads", ""), "cannot be made (TypeError"),
        (
            HEAD.replace('return RuntimeInfo("r"', 'raise OSError("no") or RuntimeInfo("r"'),
            "does not say what it is (OSError: no)",
        ),
        (HEAD.replace('"cpu"\n', '"C P U"\n'), "does not say what it is (ValidationError"),
        (HEAD.replace('"cpu"\n', "7\n"), "does not say what it is (ValidationError"),
        (HEAD.replace('return RuntimeInfo("r", "3.1"', 'return str("r", "3.1"'), "TypeError"),
        (HEAD.replace("class R", "class Q"), "AttributeError"),
    ],
)
def test_a_broken_one_is_a_problem_in_words(put, source: str, words: str):
    put(source)
    offer = describe("r")
    assert words in offer.problem
    assert (offer.kinds, offer.version) == ((), "")


def test_one_that_says_what_it_lacks(put):
    name = put(HEAD.replace('"3.1", ("cpu", "npu")', '"", (), "no chip; put one in"'))
    assert describe("r").problem == f"{name} 1.0: no chip; put one in"


def test_one_without_a_version_has_that_of_its_package(put):
    put(HEAD.replace('"3.1"', '""'), version="7.2")
    assert describe("r").version == "7.2"


def test_one_whose_package_has_no_version_either(put):
    name = put(HEAD.replace('"3.1"', "''"), version=None)
    assert (describe("r").package, describe("r").version) == (name, "unversioned")


class TestRuntime:
    def runtime(self) -> ForeignRuntime:
        return ForeignRuntime("r", threads=1, offer=describe)

    def test_what_it_says_of_itself(self, put):
        put(HEAD)
        want = RuntimeInfo("r", "3.1", ("cpu", "npu"), note="by hand")
        assert self.runtime().info() == want

    def test_info_imports_nothing_here(self, put):
        name = put(HEAD)
        runtime = ForeignRuntime("r", threads=1, offer=lambda one: Offer(one, version="3"))
        assert runtime.info().version == "3"
        assert name not in sys.modules

    def test_what_load_raises_has_the_model_and_no_path(self, put):
        put(HEAD)
        with pytest.raises(LoadError) as caught:
            self.runtime().load(ARTEFACT)
        want = 'model "gate": r refuses it: ValueError: not (path)'
        assert caught.value.message == want

    @pytest.mark.parametrize("raised", ["SystemExit(1)", "KeyboardInterrupt", "MemoryError"])
    def test_load_that_would_end_us(self, put, raised: str):
        put(HEAD.replace("ValueError", f"{raised} or ValueError"))
        with pytest.raises(LoadError, match="refuses it"):
            self.runtime().load(ARTEFACT)

    def test_an_error_of_ours_is_left_alone(self, put):
        put("from edged.errors import LoadError\n" + HEAD.replace("ValueError", "LoadError"))
        with pytest.raises(LoadError, match=r"^not /opt"):
            self.runtime().load(ARTEFACT)

    def test_what_is_no_session(self, put):
        put(HEAD.replace('raise ValueError("not /opt/secret/today")', "return 5"))
        with pytest.raises(LoadError, match="what r loads is no session"):
            self.runtime().load(ARTEFACT)

    def test_estimates(self, put):
        put(HEAD)
        assert self.runtime().estimate_bytes(ARTEFACT) == 100  # less than the file is none

    def test_an_estimate_that_fails(self, put):
        put(HEAD.replace("return 5", "raise ValueError"))
        assert self.runtime().estimate_bytes(ARTEFACT) > 8 * 100


class _Inner:
    """A session that does what it is told."""

    def __init__(self, **acts: Any) -> None:
        self.inputs, self.outputs = acts.get("inputs", (X,)), acts.get("outputs", (Y,))
        self.acts = acts
        self.closed = 0

    def run(self, _inputs: object) -> Any:
        return self._act("run")

    def bind(self, _inputs: object, _outputs: object) -> Any:
        return self._act("bind")

    def close(self) -> None:
        self.closed += 1
        self._act("close")

    def _act(self, name: str) -> Any:
        act = self.acts.get(name)
        if isinstance(act, BaseException):
            raise act
        return act


class TestSession:
    def session(self, inner: Any) -> Session:
        runtime = ForeignRuntime("r", threads=1, offer=Offer)

        class Made:
            def load(self, _artefact: Artefact) -> Any:
                return inner

        runtime._made = Made()  # type: ignore[assignment]
        return runtime.load(ARTEFACT)

    def test_the_promised_outputs_and_no_others_in_their_order(self):
        y = np.ones((1, 2), np.float32)
        session = self.session(_Inner(run={"z": y, "y": y}))
        assert list(session.run({})) == ["y"]
        assert session.run({})["y"] is y

    @pytest.mark.parametrize(
        "got",
        [
            None,
            {},
            [],
            {"y": [[1.0, 2.0]]},
            {"y": np.ones((1, 2))},
            {"y": np.float32(1)},
            {"y": np.ones(2, np.float32)},
        ],
    )
    def test_other_outputs_than_promised(self, got: object):
        with pytest.raises(RunError, match=r'^model "gate" failed while running: output "y" is '):
            self.session(_Inner(run=got)).run({})

    @pytest.mark.parametrize("error", [ValueError("at /opt/x"), SystemExit(2), KeyboardInterrupt()])
    def test_what_a_run_raises(self, error: BaseException):
        session = self.session(_Inner(run=error, bind=error))
        with pytest.raises(RunError, match=r'^model "gate" failed while running: ') as caught:
            session.run({})
        assert "/opt" not in caught.value.message
        with pytest.raises(RunError, match="cannot bind"):
            session.bind({}, {})

    def test_bound_runs(self):
        assert self.session(_Inner()).bind({}, {}) is None
        inner = _Inner(run=ValueError("at /opt/x"))
        inner.acts["bind"] = type("Bound", (), {"run": lambda _self: inner.run({})})()
        bound = self.session(inner).bind({}, {})
        assert bound is not None
        with pytest.raises(RunError, match=r"running: ValueError: at \(path\)"):
            bound.run()
        inner.acts["run"] = None
        bound.run()

    def test_one_that_binds_nothing_at_all(self):
        inner = _Inner(run={})
        inner.bind = None  # type: ignore[method-assign,assignment]
        assert self.session(inner).bind({}, {}) is None

    def test_closed_once_whatever_it_raises(self):
        inner = _Inner(close=SystemExit(3))
        session = self.session(inner)
        session.close()
        session.close()
        assert inner.closed == 1
        with pytest.raises(RunError, match="closed"):
            session.run({})
        with pytest.raises(RunError, match="closed"):
            session.bind({}, {})

    @pytest.mark.parametrize(
        ("declared", "words"),
        [
            ({"inputs": ()}, "promises inputs x"),
            ({"outputs": (X,)}, 'promises outputs y; the model file has "x"'),
            ({"inputs": (TensorSpec("x", "float64", ("batch", 2)),)}, r'"x" is float64\[batch,2\]'),
            ({"inputs": None}, "is no session"),
            ({"inputs": ("x",)}, "is no session"),
        ],
    )
    def test_another_signature_is_refused_and_closed(self, declared: Any, words: str):
        inner = _Inner(**declared)
        with pytest.raises(LoadError, match=words):
            self.session(inner)
        assert inner.closed == 1
