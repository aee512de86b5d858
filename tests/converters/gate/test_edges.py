import numpy as np
import pytest

from converters.errors import ParityError
from converters.gate.checks import Checks
from converters.gate.edges import prove_edges
from edged.manifest import Tolerance

SAMPLES = {"x": np.array([[1.0], [3.0]], "f4")}


def edge(value, answer):
    return {"x": np.array([[value]], "f4")}, {"y": np.array([[answer]], "f8")}


def prove(edges, run=lambda rows: {"y": rows["x"]}, **options):
    checks = Checks()
    values = {"tolerance": Tolerance(), "label_of": {}, **options}
    return prove_edges(edges, run, SAMPLES, checks=checks, **values), checks.done


def test_edges_that_agree_travel_in_the_outputs_dtype():
    agreed, (check,) = prove({"lowest": edge(1, 1), "missing": edge(2, 2)})
    assert list(agreed) == ["lowest", "missing"]
    assert agreed["lowest"][1]["y"].dtype == "f4"
    assert (check.verdict, check.detail) == (
        "passed",
        "rows of lowest, missing give the framework's answers",
    )


def test_one_that_differs_within_the_samples_is_refused():
    with pytest.raises(ParityError, match=r'edge case "highest".*differ by 5; say --edges none'):
        prove({"highest": edge(3, 8)})


def test_one_that_differs_outside_of_the_samples_is_a_remark():
    agreed, (check,) = prove(
        {"lowest": edge(1, 1), "zeros": edge(0, 7), "missing": edge(np.nan, 4)}
    )
    assert list(agreed) == ["lowest"]
    assert check.verdict == "remark"
    assert "zeros, missing values" in check.detail


@pytest.mark.parametrize("name", ["unknown-words", "missing-words"])
def test_one_that_the_bundle_promises_is_refused_whatever_the_samples_hold(name):
    with pytest.raises(ParityError, match=f'edge case "{name}"'):
        prove({name: edge(-1, 7)})


def test_a_framework_that_takes_no_nan_is_told():
    _, (check,) = prove({"lowest": edge(1, 1)})
    assert check.detail.endswith("the framework does not take NaN")


def test_a_tied_class_does_not_travel_and_is_no_failure():
    inputs = {"x": np.zeros((1, 2), "f4")}
    answers = {"p": np.array([[0.5, 0.5]], "f4"), "label": np.array([0])}

    def run(_rows):
        return {"p": answers["p"], "label": np.array([1])}

    options = {"label_of": {"label": "p"}}
    agreed, _ = prove({"zeros": (inputs, answers)}, run, **options)
    assert agreed == {}
