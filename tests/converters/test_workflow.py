"""Source to bundle, with the real throw-away process, and each gate seen to close."""

import dataclasses
import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx import numpy_helper

import converters
from converters import ParityError, Recipe, UnsupportedModelError, graph, workflow
from converters.errors import ConversionError
from converters.show import describe_report
from converters.sources.base import Remedy
from converters.targets.environment import NotCheckedError
from converters.verify import verify_bundle
from edged.errors import DeniedError
from edged.store.bundle import open_bundle
from edged.store.golden import read_safetensors


def members_of(path):
    with open_bundle(path) as bundle:
        return {m.name: b"".join(bundle.stream(m)) for m in bundle.manifest.members}


def test_scikit_learn_to_signed_bundle(digits, digits_bundle):
    manifest = digits_bundle.manifest
    assert [(e.name, str(e.spec())) for e in manifest.inputs] == [("image", "float32[batch,64]")]
    assert [(e.name, str(e.spec())) for e in manifest.outputs] == [
        ("probabilities", "float32[batch,10]"),
        ("label", "int64[batch]"),
    ]
    assert manifest.output_processing["probabilities"].labels == tuple("0123456789")
    assert manifest.parity["rows"] == 300
    assert manifest.parity["outputs"]["label"]["label_agreement"] == 1.0
    digest = hashlib.sha256((digits / "samples.npz").read_bytes()).hexdigest()
    assert manifest.parity["samples_sha256"] == digest
    assert manifest.is_row_wise
    lines = verify_bundle(digits_bundle.path, [digits / "release.pub"], run=True)
    assert any("golden" in line for line in lines)


def test_golden_samples_are_the_frameworks_own_numbers(digits, digits_bundle):
    import joblib

    golden = read_safetensors(members_of(digits_bundle.path)["golden.safetensors"])
    assert len(golden["in.image"]) == digits_bundle.manifest.golden.rows >= 8
    model = joblib.load(digits / "digits.joblib")
    expected = model.predict_proba(golden["in.image"]).astype("f4")
    np.testing.assert_allclose(golden["out.probabilities"], expected, rtol=1e-6, atol=1e-7)


def test_nothing_of_the_machine_is_in_a_bundle(digits, digits_bundle):
    data = digits_bundle.path.read_bytes()
    for text in (str(digits), os.uname().nodename, str(Path.home()), "/site-packages/"):
        assert len(text) < 4 or text.encode() not in data


def test_the_same_recipe_gives_the_same_bytes_in_another_process(digits, digits_bundle, tmp_path):
    words = [
        *(sys.executable, "-m", "converters.cli", str(digits / "digits.joblib"), "--trust"),
        *("-o", str(tmp_path / "again.edgb"), "--samples", str(digits / "samples.npz")),
        *("--name", "digits", "--release", "1", "--key", str(digits / "release.key")),
    ]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        words, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.edgb").read_bytes() == digits_bundle.path.read_bytes()
    assert digits_bundle.digest in done.stdout


def test_names_given_are_for_the_first_ones(digits, tmp_path):
    fields = {"source": str(digits / "digits.joblib"), "samples": str(digits / "samples.npz")}
    recipe = Recipe(**fields, name="m", release=1, output_names=("chance",))
    manifest = converters.convert(recipe, tmp_path / "m.edgb", trust=True).manifest
    assert [entry.name for entry in manifest.outputs] == ["chance", "label"]
    assert "chance" in manifest.output_processing
    recipe = Recipe(**fields, name="m", release=1, output_names=("a", "b", "c"))
    with pytest.raises(ConversionError, match="names given"):
        converters.convert(recipe, tmp_path / "m.edgb", trust=True)


class Bomb:
    """A pickle that makes a file when it is opened."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_without_trust_a_pickle_is_not_opened(digits, tmp_path):
    (tmp_path / "model.joblib").write_bytes(pickle.dumps(Bomb(tmp_path / "fired")))
    recipe = Recipe(
        source=str(tmp_path / "model.joblib"),
        samples=str(digits / "samples.npz"),
        name="m",
        release=1,
    )
    with pytest.raises(DeniedError, match="--trust"):
        converters.convert(recipe, tmp_path / "m.edgb")
    assert not (tmp_path / "fired").exists()
    # The control: with --trust the same file does fire, in its own process, and is still refused.
    with pytest.raises(ConversionError, match="not a scikit-learn estimator"):
        converters.convert(recipe, tmp_path / "m.edgb", trust=True)
    assert (tmp_path / "fired").exists()
    assert not (tmp_path / "m.edgb").exists()


def test_a_perturbed_weight_fails_parity(digits, tmp_path, monkeypatch):
    honest = workflow.run_source

    def perturbed(*arguments):
        converted = honest(*arguments)
        model = graph.parse(converted.model)
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "coefficients":
                    attribute.floats[5] += 0.05
        return dataclasses.replace(converted, model=model.SerializeToString())

    monkeypatch.setattr(workflow, "run_source", perturbed)
    recipe = Recipe(
        source=str(digits / "digits.joblib"),
        samples=str(digits / "samples.npz"),
        name="m",
        release=1,
    )
    with pytest.raises(ParityError, match=r'output "probabilities": \d+ of 300 rows'):
        converters.convert(recipe, tmp_path / "m.edgb", trust=True)
    assert not (tmp_path / "m.edgb").exists()


def test_onnx_as_it_comes(linear, tmp_path):
    steps = []
    recipe = linear(output_names=("score",), labels=("low", "high"))
    report = converters.convert(recipe, tmp_path / "l.edgb", progress=steps.append)
    assert str(report.manifest.outputs[0].spec()) == "float32[batch,2]"
    assert report.manifest.outputs[0].name == "score"
    assert report.manifest.output_processing["score"].labels == ("low", "high")
    assert not report.is_signed
    assert steps[1] == "converting with onnx"
    assert "process" in report.isolation
    assert b"someone" not in members_of(report.path)["model.onnx"]
    assert verify_bundle(report.path, [], run=True)


def test_onnx_weights_beside_the_file_come_inside(linear, build_linear, tmp_path):
    import onnx

    model = build_linear()
    recipe = linear()
    onnx.save(model, recipe.source, save_as_external_data=True, location="w.bin", size_threshold=0)
    report = converters.convert(recipe, tmp_path / "l.edgb")
    weights = onnx.load_from_string(members_of(report.path)["model.onnx"]).graph.initializer
    np.testing.assert_array_equal(
        numpy_helper.to_array(weights[0]),
        numpy_helper.to_array(build_linear().graph.initializer[0]),
    )
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ConversionError, match="beside the model"):
        converters.convert(recipe, tmp_path / "l.edgb")


def test_onnx_to_another_opset_when_asked(linear, build_linear, tmp_path):
    report = converters.convert(linear(build_linear(opset=13), opset=18), tmp_path / "l.edgb")
    assert report.manifest.artefacts[0].opset == 18
    report = converters.convert(linear(build_linear(opset=13)), tmp_path / "l.edgb")
    assert report.manifest.artefacts[0].opset == 13


def test_a_frozen_batch_is_refused(linear, build_linear, tmp_path):
    with pytest.raises(UnsupportedModelError, match='input "x" has its batch axis frozen at 4'):
        converters.convert(linear(build_linear(batch=4)), tmp_path / "l.edgb")
    assert not (tmp_path / "l.edgb").exists()


def test_a_model_without_rows(linear, build_linear, tmp_path):
    recipe = linear(build_linear(batch=40), batch="none")
    report = converters.convert(recipe, tmp_path / "l.edgb")
    assert str(report.manifest.inputs[0].spec()) == "float32[40,3]"
    assert not report.manifest.is_row_wise
    assert verify_bundle(report.path, [], run=True)


def test_a_constant_model_proves_nothing(linear, build_linear, tmp_path):
    recipe = linear(build_linear(weight=np.zeros((3, 2), "f4")))
    with pytest.raises(ParityError, match="proves nothing"):
        converters.convert(recipe, tmp_path / "l.edgb")


def test_one_sample_is_too_few(linear, tmp_path):
    recipe = linear()
    np.save(tmp_path / "rows.npy", np.ones((1, 3)))
    with pytest.raises(ConversionError, match="at least 2"):
        converters.convert(recipe, tmp_path / "l.edgb")


def test_csv_columns_become_features(linear, tmp_path):
    recipe = linear()
    rows = np.random.default_rng(0).normal(size=(10, 4))
    text = "mass,target,size,heat\n" + "\n".join(",".join(map(str, row)) for row in rows)
    (tmp_path / "rows.csv").write_text(text)
    fields = {"source": recipe.source, "samples": str(tmp_path / "rows.csv")}
    recipe = converters.recipe.make_recipe(
        {
            **fields,
            "name": "m",
            "release": 1,
            "input_processing": {"*": {"kind": "features", "names": ["heat", "mass", "size"]}},
        }
    )
    report = converters.convert(recipe, tmp_path / "l.edgb")
    assert report.manifest.input_processing["x"].names == ("heat", "mass", "size")
    golden = read_safetensors(members_of(report.path)["golden.safetensors"])
    np.testing.assert_allclose(golden["in.x"][0], rows[0, [3, 0, 2]].astype("f4"))
    missing = converters.recipe.make_recipe(
        {
            **fields,
            "name": "m",
            "release": 1,
            "input_processing": {"*": {"kind": "features", "names": ["heat", "weight"]}},
        }
    )
    with pytest.raises(ConversionError, match="no column weight"):
        converters.convert(missing, tmp_path / "l.edgb")


def test_a_repaired_trap_is_told_in_the_bundle(linear, tmp_path, monkeypatch):
    honest = workflow.run_source
    remedy = Remedy(trap="scaler-division", what="a reciprocal is not a division", where="scale")

    def repaired(*arguments):
        converted = honest(*arguments)
        result = msgspec.structs.replace(converted.result, remedies=(remedy,))
        return dataclasses.replace(converted, result=result)

    monkeypatch.setattr(workflow, "run_source", repaired)
    report = converters.convert(linear(target="jetpack6"), tmp_path / "l.edgb")
    (told,) = report.manifest.provenance["remedies"]
    assert told == {"trap": "scaler-division", "where": "scale", "what": remedy.what}
    assert report.manifest.provenance["target"] == {
        "name": "jetpack6",
        "onnxruntime": "1.23.2",
        "tensorrt": "10.3",
    }
    shown = "\n".join(table.plain() for table in describe_report(report))
    assert "repaired: scaler-division a reciprocal" in " ".join(shown.split())


def test_edge_cases_travel_and_what_was_checked_is_told(linear, tmp_path):
    report = converters.convert(linear(), tmp_path / "l.edgb")
    assert report.manifest.parity["edges"] == ["zeros", "lowest", "highest"]
    golden = read_safetensors(members_of(report.path)["golden.safetensors"])
    assert len(golden["in.x"]) == report.manifest.golden.rows == 16 + 3
    np.testing.assert_array_equal(golden["in.x"][-3], [0, 0, 0])
    np.testing.assert_array_equal(golden["out.y"][-3], [0.5, -0.5])
    verdicts = {check.name: check.verdict for check in report.checks}
    assert verdicts["empty environment"] == "not checked"
    passed = ("form", "rows", "numbers", "edges", "float16", "file")
    assert {verdicts[name] for name in passed} == {"passed"}
    assert [step.name for step in report.steps][-1] == "packing"
    none = converters.convert(linear(edges="none"), tmp_path / "l.edgb")
    assert none.manifest.golden.rows == 16


def test_without_samples_rows_are_made_and_the_bundle_is_checked_not_verified(linear, tmp_path):
    honest = linear()
    assert converters.convert(honest, tmp_path / "l.edgb").manifest.parity["grade"] == "verified"
    recipe = msgspec.structs.replace(honest, samples="")
    report = converters.convert(recipe, tmp_path / "l.edgb")
    assert report.manifest.parity["grade"] == "checked"
    assert report.manifest.parity["rows"] == 64
    assert "samples_sha256" not in report.manifest.parity
    again = converters.convert(recipe, tmp_path / "again.edgb")
    assert again.digest == report.digest
    with pytest.raises(ConversionError, match="no --samples were given"):
        converters.convert(msgspec.structs.replace(recipe, batch="none"), tmp_path / "l.edgb")


def test_an_empty_environment_can_be_required(linear, tmp_path, monkeypatch):
    def prepare(_target):
        raise NotCheckedError("switched off")

    monkeypatch.setattr("converters.targets.environment.prepare", prepare)
    with pytest.raises(ConversionError, match="--empty-env require: switched off"):
        converters.convert(linear(), tmp_path / "l.edgb", empty_env="require")
    assert not (tmp_path / "l.edgb").exists()


def test_only_the_empty_environment_finds_a_runtime_that_answers_otherwise(
    linear, tmp_path, monkeypatch
):
    """A target's ONNX Runtime of another version, of which one answer in a hundred is wrong.

    The probe really runs there; its interpreter changes what the runtime said, and nothing here
    knows of that.
    """
    site = [path for path in sys.path if path.endswith("site-packages")]
    script = tmp_path / "python"
    code = f"""import runpy, sys
sys.path += {site!r}
import numpy as np
save = np.savez
np.savez = lambda path, **arrays: save(path, **{{k: np.where(a == a.max(), a * 1.01, a) for k, a in arrays.items()}})
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    (tmp_path / "other.py").write_text(code)
    script.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -I {tmp_path}/other.py "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr("converters.targets.environment.prepare", lambda _target: script)
    bundle = tmp_path / "l.edgb"
    with pytest.raises(ParityError, match=r"in an empty environment of .* 1 of 19 golden rows"):
        converters.convert(linear(), bundle, empty_env="require")
    assert not bundle.exists()
    # The control: every other check is content with it.
    report = converters.convert(linear(), bundle, empty_env="off")
    assert bundle.exists()
    assert {c.verdict for c in report.checks if c.name != "empty environment"} == {"passed"}
