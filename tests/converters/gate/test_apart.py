import numpy as np
import pytest

from converters.errors import ConversionError, ParityError
from converters.gate import apart
from converters.gate.checks import Checks
from converters.targets.environment import NotCheckedError, Probed
from converters.targets.table import TARGETS
from edged.manifest import Tolerance

GOLDEN = {"in.x": np.ones((2, 3), "f4"), "out.y": np.full((2, 3), 2, "f4")}


def prove(monkeypatch, answer, mode="auto"):
    def probe(target, model, inputs, asked):
        assert (target, model, list(inputs), asked) == (TARGETS["cpu"], b"m", ["x"], mode)
        if isinstance(answer, Exception):
            raise answer
        return Probed("3.10.13", "1.23.2", {"y": answer})

    monkeypatch.setattr(apart, "probe", probe)
    checks = Checks()
    apart.prove_apart(TARGETS["cpu"], b"m", GOLDEN, tolerance=Tolerance(), mode=mode, checks=checks)
    return checks.done[0]


def test_the_same_numbers_there_pass_and_say_where(monkeypatch):
    check = prove(monkeypatch, GOLDEN["out.y"])
    assert check.verdict == "passed"
    assert "2 golden rows (Python 3.10.13, ONNX Runtime 1.23.2, LANG=C)" in check.detail


def test_an_environment_that_cannot_be_had_is_not_taken_for_passed(monkeypatch):
    check = prove(monkeypatch, NotCheckedError("no network"))
    assert (check.verdict, check.detail) == ("not checked", "no network")
    with pytest.raises(ConversionError, match="--empty-env require: no network"):
        prove(monkeypatch, NotCheckedError("no network"), "require")


def test_other_numbers_there_are_refused(monkeypatch):
    with pytest.raises(ParityError, match=r"1 of 2 golden rows.*another --opset"):
        prove(monkeypatch, GOLDEN["out.y"] + np.array([[0, 0, 0], [0, 1, 0]], "f4"))
