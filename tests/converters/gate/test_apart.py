import numpy as np
import pytest

from converters.errors import ConversionError, ParityError
from converters.gate import apart
from converters.gate.checks import Checks
from converters.targets.environment import NotCheckedError, Probed
from converters.targets.table import TARGETS
from edged.manifest import Tolerance

GOLDEN = {"in.x": np.ones((2, 3), "f4"), "out.y": np.full((2, 3), 2, "f4")}


def prove(answer, mode="auto", golden=GOLDEN):
    asked = []

    def ask(model, inputs):
        assert (model, list(inputs)) == (b"m", ["x"])
        asked.append(inputs["x"])
        if isinstance(answer, Exception):
            raise answer
        return Probed("3.10.13", "1.23.2", {"y": answer[-len(inputs["x"]) :]})

    checks = Checks()
    apart.prove_apart(
        TARGETS["cpu"],
        b"m",
        golden,
        tolerances={"y": Tolerance()},
        mode=mode,
        ask=ask,
        checks=checks,
    )
    return checks.done[0]


def test_the_same_numbers_there_pass_and_say_where():
    check = prove(GOLDEN["out.y"])
    assert check.verdict == "passed"
    assert "of 2 golden rows (Python 3.10.13, ONNX Runtime 1.23.2, LANG=C)" in check.detail


def test_an_environment_that_cannot_be_had_is_not_taken_for_passed():
    check = prove(NotCheckedError("no network"))
    assert (check.verdict, check.detail) == ("not checked", "no network")
    with pytest.raises(ConversionError, match="--empty-env require: no network"):
        prove(NotCheckedError("no network"), "require")


def test_other_numbers_there_are_refused():
    with pytest.raises(ParityError, match=r"1 of 2 golden rows.*another --opset"):
        prove(GOLDEN["out.y"] + np.array([[0, 0, 0], [0, 1, 0]], "f4"))


def test_of_many_large_rows_the_last_ones_are_run_with_the_edges_among_them():
    rows = np.zeros((20, 3, 224, 224), "f4")
    golden = {"in.x": rows, "out.y": np.arange(40, dtype="f4").reshape(20, 2)}
    assert "of 8 golden rows" in prove(golden["out.y"], golden=golden).detail
