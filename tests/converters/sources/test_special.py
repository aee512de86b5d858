"""ONNX files of strings and bfloat16, from the file to a proven bundle."""

import io
import json
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

import converters
from converters import ParityError, Recipe, UnsupportedModelError
from converters.elements import same
from converters.errors import ConversionError
from converters.gate import prove
from converters.report.gather import gather_evidence
from converters.report.page import render
from converters.session import open_session
from converters.targets import probe
from converters.targets.environment import NotCheckedError, read_arrays, write_arrays
from converters.verify import verify_bundle
from edged.comparing import compare
from edged.errors import GoldenMismatchError
from edged.store.bundle import open_bundle
from edged.store.golden import read_safetensors
from edged.strings import strings
from edged.tensors import BFLOAT16
from tests.converters import special_models as models


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Each model's bundle with samples, and what its conversion said."""
    folder = tmp_path_factory.mktemp("special")
    reports = {}
    rows = {
        "colour": (models.classifier(), models.classifier_rows()),
        "half": (models.half_adder(), {"x": models.half_rows().astype(ml_dtypes.bfloat16)}),
    }
    for name, (model, samples) in rows.items():
        models.save(model, folder / f"{name}.onnx")
        np.savez(folder / f"{name}.npz", **samples)
        recipe = Recipe(
            source=str(folder / f"{name}.onnx"),
            name=name,
            release=1,
            samples=str(folder / f"{name}.npz"),
        )
        reports[name] = converters.convert(recipe, folder / f"{name}.edgb", empty_env="off")
    return SimpleNamespace(folder=folder, **reports)


def members_of(path):
    with open_bundle(path) as bundle:
        return bundle.manifest, {
            m.name: b"".join(bundle.stream(m)) for m in bundle.manifest.members
        }


def checks_of(report):
    return {check.name: (check.verdict, check.detail) for check in report.checks}


def test_a_pipeline_of_words_becomes_a_proven_bundle(made):
    manifest, members = members_of(made.colour.path)
    assert [str(entry.spec()) for entry in (*manifest.inputs, *manifest.outputs)] == [
        "string[batch,1]",
        "float32[batch,1]",
        "string[batch]",
        "float32[batch,3]",
    ]
    assert manifest.parity["grade"] == "verified"
    assert manifest.parity["outputs"]["label"] == {
        "label_agreement": 1.0,
        "max_abs": 0.0,
        "max_rel": 0.0,
        "rows_beyond": 0,
    }
    golden = read_safetensors(members[manifest.golden.file])
    assert set(golden["in.colour"].ravel().tolist()) >= {b"blue", b"red", b"", "grün".encode()}
    assert set(golden["out.label"].tolist()) == {b"cold", b"mild", b"hot"}
    checks = checks_of(made.colour)
    assert checks["numbers"] == ("passed", "24 sample rows within the tolerance; strings are equal")
    assert "rows of zeros, lowest, highest" in checks["edges"][1]
    assert verify_bundle(made.colour.path, [], run=True)[-2].startswith(
        'golden "label": ok, 18 rows'
    )


def test_bfloat16_becomes_a_proven_bundle(made):
    manifest, members = members_of(made.half.path)
    assert [str(e.spec()) for e in (*manifest.inputs, *manifest.outputs)] == 2 * [
        "bfloat16[batch,2]"
    ]
    golden = read_safetensors(members[manifest.golden.file])
    assert {array.dtype for array in golden.values()} == {BFLOAT16}
    assert manifest.golden.tolerances["y"].rtol == models.STEP
    checks = checks_of(made.half)
    assert "one of its steps, rtol 0.0078125" in checks["numbers"][1]
    assert checks["float16"][1].endswith("no ranges of it")
    assert "the framework does not take NaN" in checks["edges"][1]  # it answers NaN
    assert verify_bundle(made.half.path, [], run=True)[-1].startswith('golden "y": ok')


def test_the_report_says_both(made):
    for report in (made.colour, made.half):
        evidence = gather_evidence(report.path, report, budget_s=0)
        assert "bfloat16[batch,2]" in render(evidence) or "string[batch,1]" in render(evidence)
        assert all(output.rows_beyond == 0 for output in evidence.outputs)


def test_the_daemons_own_proof_takes_them(made):
    """The golden samples of each, on the session that a device serves them with."""
    for name in ("colour", "half"):
        manifest, members = members_of(getattr(made, name).path)
        promised = manifest.golden
        tensors = read_safetensors(members[promised.file])
        wanted = {e.name: tensors[f"out.{e.name}"] for e in manifest.outputs}
        given = {e.name: tensors[f"in.{e.name}"] for e in manifest.inputs}
        got = open_session(members[manifest.artefacts[0].file])(given)
        compare(got, wanted, promised.tolerances, name)
        with pytest.raises(GoldenMismatchError, match=f'"{manifest.outputs[0].name}"'):
            compare(got, wanted | {manifest.outputs[0].name: _turned(wanted)}, {}, name)


def _turned(wanted):
    return np.ascontiguousarray(next(iter(wanted.values()))[::-1])


def test_without_samples_rows_are_made_of_the_models_own_words(made):
    path = models.save(models.translator(), made.folder / "word.onnx")
    recipe = Recipe(source=str(path), name="word", release=1)
    report = converters.convert(recipe, made.folder / "word.edgb", empty_env="off")
    manifest, members = members_of(report.path)
    assert manifest.parity["grade"] == "checked"
    golden = read_safetensors(members[manifest.golden.file])
    assert set(golden["out.answer"].ravel().tolist()) == {b"ja", b"nein", b"?"}
    # The least row is the empty one: nothing is asked twice, and no number takes NaN.
    detail = "rows of zeros, highest give the framework's answers"
    assert checks_of(report)["edges"] == ("passed", detail)


def test_words_that_come_out_otherwise_are_refused(made, monkeypatch):
    """The converted graph is made to answer in another word than the file as it came."""
    real = prove.graph.clean

    def clean(model, *more):
        cleaned = real(model, *more)
        words = next(a for n in cleaned.graph.node for a in n.attribute if b"hot" in a.strings)
        words.strings[list(words.strings).index(b"hot")] = b"warm"
        return cleaned

    monkeypatch.setattr(prove.graph, "clean", clean)
    with pytest.raises(ParityError, match=r'"label": \d+ of 24 rows give other strings.*"warm"'):
        convert(made, "colour")


def convert(made, name, **fields):
    files = {
        "source": str(made.folder / f"{name}.onnx"),
        "samples": str(made.folder / f"{name}.npz"),
    }
    recipe = Recipe(name=name, release=2, **(files | fields))
    return converters.convert(recipe, made.folder / "again.edgb", empty_env="off")


@pytest.mark.parametrize("name", ["colour", "half"])
def test_lower_precisions_are_refused_by_name(made, name):
    with pytest.raises(UnsupportedModelError, match=r"is (string|bfloat16): --precision float16"):
        convert(made, name, precision="float16")


def test_samples_of_numbers_are_refused_for_words(made):
    np.savez(made.folder / "wrong.npz", **models.classifier_rows() | {"colour": np.ones((24, 1))})
    with pytest.raises(ConversionError, match='input "colour" takes strings'):
        convert(made, "colour", samples=str(made.folder / "wrong.npz"))


def test_what_a_processor_does_not_compute_in_bfloat16_is_said(made):
    models.save(models.half_adder(direct=True), made.folder / "direct.onnx")
    with pytest.raises(UnsupportedModelError, match=r"Add.*Put a Cast to float32 before"):
        convert(made, "direct", samples=str(made.folder / "half.npz"))


def test_other_sources_take_numbers_only(made, tmp_path):
    (tmp_path / "m.json").write_text('{"learner": {}, "version": [2, 1, 0]}')
    with pytest.raises(ConversionError, match='array "colour": text is taken for ONNX files only'):
        convert(made, "colour", source=str(tmp_path / "m.json"), kind="xgboost")


def test_an_empty_environment_is_given_and_gives_both(made, monkeypatch, tmp_path):
    """Through the probe's own files, which NumPy alone could not write."""
    for name in ("colour", "half"):
        manifest, members = members_of(getattr(made, name).path)
        tensors = read_safetensors(members[manifest.golden.file])
        (tmp_path / "model.onnx").write_bytes(members[manifest.artefacts[0].file])
        write_arrays(tmp_path, "inputs", {e.name: tensors[f"in.{e.name}"] for e in manifest.inputs})
        monkeypatch.setattr("sys.stdin", io.StringIO("begin\n"))
        probe.main(tmp_path)
        answers = read_arrays(tmp_path, "outputs")
        assert set(answers) == {entry.name for entry in manifest.outputs}
        for entry in manifest.outputs:
            assert same(answers[entry.name], tensors[f"out.{entry.name}"])


def test_a_runtime_that_takes_no_bfloat16_is_told_apart_from_a_model_that_fails(
    made, monkeypatch, tmp_path
):
    (tmp_path / "model.onnx").write_bytes((made.folder / "half.onnx").read_bytes())
    write_arrays(tmp_path, "inputs", {"x": np.zeros((2, 2), "u2").view(BFLOAT16)})
    monkeypatch.setattr("sys.stdin", io.StringIO("begin\n"))
    monkeypatch.delattr("onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type")
    probe.main(tmp_path)
    answer = json.loads((tmp_path / "answer.json").read_text("ascii"))
    assert answer["lacks"] == "takes no bfloat16 from Python"
    assert "error" not in answer


def test_strings_that_are_no_utf8_are_not_checked_apart(tmp_path):
    with pytest.raises(NotCheckedError, match='"x" has strings that are no UTF-8'):
        write_arrays(tmp_path, "inputs", {"x": strings([b"\xff"], (1,))})
