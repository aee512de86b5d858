"""A proven network made int8: through the whole workflow once, and each gate seen to close."""

import tempfile
import zipfile

import msgspec
import numpy as np
import pytest

from converters import ParityError, convert
from converters.precision import lower as module
from converters.precision.both import pack_both
from converters.precision.lower import lower
from converters.report.gather import gather_evidence
from converters.report.page import render
from converters.show import describe_bundle, describe_report
from converters.verify import verify_bundle
from edged.loading import entries_for
from edged.store.bundle import read_manifest
from edged.store.golden import read_safetensors


def lowered(proven, truth=None, **fields):
    recipe = proven.recipe(**fields)
    return lower(recipe, proven.converted, proven.proven, truth, proven.contents(recipe))


def test_from_recipe_to_a_bundle_that_a_device_takes(net, proven, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "net-1.edgb"
    recipe = proven.recipe(samples=str(net / "samples.npz"), truth="right")
    report = convert(recipe, path, empty_env="off")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"], "temporary files are left"
    manifest = report.manifest
    assert [(a.runtime, a.precision) for a in manifest.artefacts] == [("onnx", "int8")]
    cost = manifest.parity["int8"]
    assert (cost["metric"], cost["rows"], cost["float32"]) == ("accuracy", 240, 1.0)
    assert cost["lost"] <= cost["budget"] == 0.02
    assert cost["bytes"]["int8"] < 0.6 * cost["bytes"]["float32"]
    said = manifest.provenance["calibration"]
    assert (said["sha256"], said["rows"]) == (proven.contents(recipe)["calibration"], 64)
    assert said["method"] == "minmax"
    lines = verify_bundle(path, [], run=True)
    assert 'golden "scores": ok' in lines[-1]
    golden = read_safetensors(zipfile.ZipFile(path).read("golden.safetensors"))
    exact = proven.proven.expected["scores"]
    assert len(golden["out.scores"]) == 16 + len(manifest.parity["edges"]) == 19
    assert np.abs(golden["out.scores"][0] - exact[0]).max() > 1e-4, "int8's own, not float32's"
    shown = "\n".join(table.plain() for table in describe_report(report))
    assert "int8: " in shown
    page = render(gather_evidence(path, report, budget_s=0))
    assert "lost of 2.00% allowed" in page
    assert read_manifest(path)[1] == manifest


def test_the_same_input_gives_the_same_bytes(proven):
    one, two = lowered(proven), lowered(proven)
    assert one.data == two.data
    assert one.tolerances == two.tolerances
    assert all(np.array_equal(one.golden[name], two.golden[name]) for name in one.golden)
    assert lowered(proven, calibration_method="percentile").data != one.data


def test_a_model_out_of_budget_is_refused_and_only_the_gate_does_it(net, proven, monkeypatch):
    """Calibrated on rows fifty times too faint, everything that the network sees is cut off."""
    faint = {"calibration": str(net / "faint.npz")}
    with pytest.raises(ParityError, match=r'int8 loses .*% of the labels of output "scores"'):
        lowered(proven, **faint)
    truth = proven.proven.expected["scores"].argmax(1)
    with pytest.raises(ParityError, match=r"of accuracy \(100.00% → .*budget is 2.00%"):
        lowered(proven, truth, **faint)
    monkeypatch.setattr(module, "refuse_loss", lambda judged, budget: None)
    assert lowered(proven, **faint).parity["int8"]["lost"] > 0.02


class TestForTensorRt:
    def test_a_target_that_has_it_gets_a_file_of_its_own_beside_the_cpus(
        self, net, proven, tmp_path
    ):
        path = tmp_path / "net-1.edgb"
        recipe = proven.recipe(samples=str(net / "samples.npz"), truth="right", target="jetpack6")
        manifest = convert(recipe, path, empty_env="off").manifest
        assert [(a.runtime, a.precision, a.file) for a in manifest.artefacts] == [
            ("onnx", "int8", "model.onnx"), ("tensorrt", "int8", "model-int8-tensorrt.onnx"),
        ]  # fmt: skip
        assert {m.name: m.type for m in manifest.members}["model-int8-tensorrt.onnx"] == "onnx"
        assert manifest.parity["int8-tensorrt"]["lost"] <= 0.02
        assert "symmetric" in manifest.provenance["calibration"]["scheme_tensorrt"]
        assert 'golden int8 tensorrt "scores": ok' in verify_bundle(path, [], run=True)[-1]
        shown = "\n".join(table.plain() for table in describe_bundle(*read_manifest(path)))
        assert "int8 for TensorRT: " in shown
        assert "int8 tensorrt (model-int8-tensorrt.onnx)" in shown
        assert entries_for(manifest, "onnxruntime") == [manifest.artefacts[0]], "never by mistake"
        assert [a.file for a in gather_evidence(path, budget_s=0).artefacts] == ["model.onnx"]

    def test_rows_are_fit_for_both_and_the_answers_its_own(self, proven):
        made = lowered(proven, target="jetpack6")
        other = made.also
        assert (made.runtime, other.runtime, other.also) == ("onnx", "tensorrt", None)
        assert made.rows == other.rows
        rows = len(other.golden["out.scores"])
        np.testing.assert_array_equal(made.golden["in.image"][:rows], other.golden["in.image"])
        assert np.abs(made.golden["out.scores"][:rows] - other.golden["out.scores"]).max() > 1e-4
        assert lowered(proven).also is None, "no TensorRT on a CPU target"
        assert lowered(proven).data == made.data

    def test_beside_float32_it_is_the_third(self, proven):
        recipe = proven.recipe(precision="float32,int8", target="jetpack7")
        contents = proven.contents(recipe)
        made = pack_both(recipe, proven.converted, proven.proven, None, contents)
        chain = [made, made.also, made.also.also]
        assert [(p.precision, p.runtime) for p in chain] == [
            ("float32", "onnx"), ("int8", "onnx"), ("int8", "tensorrt"),
        ]  # fmt: skip
        for one in chain[1:]:
            rows = len(one.golden["in.image"])
            np.testing.assert_array_equal(made.golden["in.image"][:rows], one.golden["in.image"])

    def test_beyond_the_budget_it_is_left_out_and_said(self, proven, monkeypatch):
        whole = module.quantize

        def faint(model, ranges, target, scheme):
            if scheme is module.TENSORRT:
                ranges = {n: type(r)(r.low / 50, r.high / 50) for n, r in ranges.items()}
            return whole(model, ranges, target, scheme)

        monkeypatch.setattr(module, "quantize", faint)
        made = lowered(proven, target="jetpack6")
        assert made.also is None
        assert "int8 loses" in made.parity["left_out"]["int8-tensorrt"]
        monkeypatch.setattr(module, "refuse_loss", lambda judged, budget: None)
        assert lowered(proven, target="jetpack6").also is not None, "only the budget keeps it out"

    def test_an_edge_case_that_only_one_has_a_place_for_comes_last(self, proven):
        def low(scheme, *names):
            edges = {n: ({"image": np.zeros((1, 1, 8, 8), "f4")}, {"scores": ten}) for n in names}
            model = module.prepare(proven.proven.data)
            got = proven.proven.expected
            return module._Low(scheme, b"", model, got, {}, frozenset(), edges, {})

        ten = np.zeros((1, 10), "f4")
        cpu = low(module.CPU, "zeros", "high", "low")
        made = module._pack(proven.proven, [cpu, low(module.TENSORRT, "high", "low")], [0, 1])
        assert (made.edges, made.also.edges) == (("high", "low", "zeros"), ("high", "low"))
        assert (len(made.golden["in.image"]), len(made.also.golden["in.image"])) == (5, 4)
        other = low(module.TENSORRT, "zeros", "odd", "low")
        made = module._pack(proven.proven, [cpu, other], [0, 1])
        assert (made.edges, made.also.edges) == (("zeros", "low", "high"), ("zeros", "low"))


def test_golden_rows_bear_another_right_way_to_run_them(proven):
    made = lowered(proven)
    plain = module.open_session(made.data, optimise=False)({"image": made.golden["in.image"]})
    gap = np.abs(plain["scores"] - made.golden["out.scores"]).max()
    assert gap <= made.tolerances["scores"].atol < 0.05 * np.ptp(made.golden["out.scores"])


def test_calibrating_on_the_samples_is_remarked(net, proven):
    lowered(proven, calibration=str(net / "plain.npz"))
    assert any("calibration rows too" in c.detail for c in proven.proven.checks.done)


def test_ties_and_labels_that_change_do_not_travel(proven):
    """Rows 0 to 9 tie; of the rows that were run twice, row 20 got another label the other way."""
    scores = proven.proven.expected["scores"].copy()
    scores[:10, :2] = 99
    result = msgspec.structs.replace(proven.converted.result, label_of={"label": "scores"})
    converted = type("Converted", (), {"result": result})
    labels = np.arange(3)
    twice = module._Twice([15, 20, 25], {"label": labels}, {"label": labels * [1, 2, 1]})
    tolerances = {"scores": module.Tolerance()}
    found = module._doubtful(converted, proven.proven, twice, {"scores": scores}, tolerances)
    assert set(range(240)) - found == {15, 25}


def test_a_tolerance_is_a_step_of_the_output_or_twice_what_two_ways_differ():
    got = np.array([[0, 1], [2.55, 1]], "f4")
    asked = module.Tolerance(rtol=1e-3, atol=1e-5)
    one_step = module._tolerance(asked, got, got, got)
    assert (one_step.rtol, one_step.atol) == (1e-3, pytest.approx(0.01))
    assert module._tolerance(asked, got, got, got + 0.1).atol == pytest.approx(0.2)
    wide = module.Tolerance(atol=5)
    assert module._tolerance(wide, got, got, got) == wide
    labels = np.array([1, 2])
    assert module._tolerance(asked, labels, labels, labels) == asked


def test_a_row_that_is_another_alone_is_refused():
    samples, got = {"x": np.ones((4, 2), "f4")}, {"y": np.ones((4, 3), "f4")}
    tolerances = {"y": module.Tolerance(atol=0.1)}
    module._prove_alone(
        lambda rows: {"y": rows["x"][:, :1] * [[1, 1, 1.05]]}, samples, got, tolerances
    )
    with pytest.raises(ParityError, match='output "y" differs for a row that is run alone'):
        module._prove_alone(
            lambda rows: {"y": rows["x"][:, :1] * [[1, 1, 1.2]]}, samples, got, tolerances
        )
