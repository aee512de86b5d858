"""A network in float16: through the whole workflow once, and each gate seen to close."""

import dataclasses

import numpy as np
import pytest

from converters import ParityError, convert, graph
from converters.errors import ConversionError
from converters.gate.prove import prove
from converters.precision import half, half_proof
from converters.recipe import HALF_TOLERANCE
from converters.report.gather import gather_evidence
from converters.report.page import render
from converters.session import open_session
from converters.show import describe_float16
from converters.verify import verify_bundle

NAME = half_proof.NAME
SCORES = {"rtol": 0.01, "atol": 0.04}
"""The network's scores go up to 24."""


def halved(proven, reference=None, **fields):
    converted = proven.converted
    if reference is not None:
        converted = dataclasses.replace(converted, outputs={"scores": reference})
    fields = {"tolerance": SCORES, **fields}
    return prove(proven.recipe(precision="float16", calibration="", **fields), converted)


def test_from_recipe_to_a_bundle(proven, tmp_path):
    assert proven.recipe(precision="float16", calibration="").tolerance == HALF_TOLERANCE
    recipe = proven.recipe(precision="float16", calibration="", tolerance=SCORES)
    report = convert(recipe, tmp_path / "h.edgb", empty_env="off")
    manifest = report.manifest
    assert [(a.runtime, a.precision) for a in manifest.artefacts] == [("onnx", "float16")]
    assert str(manifest.inputs[0].spec()) == "float32[batch,1,8,8]"
    assert str(manifest.outputs[0].spec()) == "float32[batch,10]"
    cost = manifest.parity["float16"]
    assert (cost["nodes"], cost["nodes_float16"], cost["islands"]) == (7, 7, [])
    assert cost["outputs"]["scores"]["label_agreement"] == 1.0
    assert 0 < cost["outputs"]["scores"]["max_abs"] < 1
    assert manifest.golden.tolerances["scores"] == recipe.tolerance
    assert len(report.proven.data) < 0.7 * len(proven.proven.data)
    verdicts = {check.name: check.verdict for check in report.checks}
    assert verdicts[NAME] == verdicts["float16"] == "passed"
    assert verify_bundle(report.path, [], run=True)
    page = render(gather_evidence(report.path, report, budget_s=0))
    assert "7 of 7 nodes in float16" in page
    assert "float16: 7 of 7 nodes" in page
    again = convert(recipe, tmp_path / "again.edgb", empty_env="off")
    assert again.digest == report.digest


def test_islands_are_told_with_their_reason(proven):
    model = graph.parse(proven.converted.model)
    # The first layer's values a million times as large, and the second's weights as much smaller.
    for tensor in model.graph.initializer:
        array = half.numpy_helper.to_array(tensor)
        if tensor.name in ("w1", "b1", "w2"):
            array = array * (1e-5 if tensor.name == "w2" else 1e5)
            tensor.CopyFrom(half.numpy_helper.from_array(array.astype("f4"), tensor.name))
    converted = dataclasses.replace(proven.converted, model=model.SerializeToString())
    recipe = proven.recipe(precision="float16", calibration="", tolerance=SCORES)
    made = prove(recipe, converted)
    (check,) = [check for check in made.checks.done if check.name == NAME]
    assert 'in float32 stay Conv "Conv_0" reaches' in check.detail
    operators = {island["operator"] for island in made.half["islands"]}
    assert operators == {"Conv", "Relu", "MaxPool"}
    assert made.half["nodes_float16"] == 3
    (shown,) = describe_float16({"float16": made.half})
    assert shown.title == "float16: 3 of 7 nodes"
    assert "float16 ends at 65504" in shown.plain()
    assert describe_float16({"float16": {"islands": [3]}})  # what others wrote is only shown


def test_rounding_that_loses_too_much_is_refused(proven, monkeypatch):
    tight = {"rtol": 1e-4, "atol": 1e-4}
    with pytest.raises(ParityError, match=r"float16 loses too much .* keep precision float32"):
        halved(proven, tolerance=tight)
    # The control: what a CPU makes of the same graph shows less than what is really lost.
    plain = half_proof.halve

    def blind(model, samples):
        made = plain(model, samples)
        return dataclasses.replace(made, rounded=model)

    monkeypatch.setattr(half_proof, "halve", blind)
    monkeypatch.setattr("converters.gate.prove._prove_numbers", _numbers_unseen)
    monkeypatch.setattr("converters.gate.prove.prove_rows", lambda *_: ((), {}))
    halved(proven, tolerance=tight)


def _numbers_unseen(_recipe, case, answer, _checks):
    return case.reference, answer(), ()


def test_a_best_class_that_moves_is_refused(proven, monkeypatch):
    """A wide tolerance would let labels go."""
    scores = proven.converted.outputs["scores"].copy()
    best = scores.argmax(axis=1)
    other = (best + 1) % 10
    rows = np.arange(10)
    top = scores[rows, best[rows]]
    scores[rows, other[rows]] = top + 1e-3
    wide = {"rtol": 1.0, "atol": 1e3}
    with pytest.raises(ParityError, match=r"the best class is another one on 4\.17% of 240 rows"):
        halved(proven, scores, tolerance=wide)
    halved(proven, scores, tolerance=wide, max_accuracy_drop=0.05)  # the control


def test_the_twin_and_the_file_compute_alike(proven):
    """But for what the CPU leaves out, which the twin has: it is further off, and not by much."""
    made = half.halve(graph.parse(proven.proven.data), proven.proven.samples)
    rows = proven.proven.samples
    wanted = proven.proven.expected["scores"]
    twin, file = (
        np.abs(open_session(graph.serialize(model))(rows)["scores"] - wanted).max()
        for model in (made.rounded, made.model)
    )
    assert file > 0
    assert 0 < twin < 20 * file + 0.1


def test_made_rows_prove_nothing(proven):
    for wrong in ({"samples": ""}, {"batch": "none"}):
        with pytest.raises(ConversionError, match="precision float16 is judged row by row"):
            proven.recipe(precision="float16", calibration="", **wrong)
