"""Two precisions in one bundle: both proven on the same rows, and int8 only inside its budget."""

import zipfile

import msgspec
import numpy as np
import pytest

from converters import ConversionError, UnsupportedModelError, convert
from converters.compose import pack_as_proven
from converters.pack import member, pack
from converters.precision import both as module
from converters.precision.both import pack_both
from converters.recipe import make_recipe
from converters.report.gather import gather_evidence
from converters.report.page import render
from converters.show import describe_bundle, describe_report
from converters.verify import verify_bundle
from edged.config.schema import ModelConfig, TrialConfig
from edged.errors import GoldenMismatchError
from edged.runtimes.registry import create_runtime
from edged.serving.trial import Loader, LoadOrder
from edged.store.bundle import bundle_digest, read_manifest, stage
from edged.store.golden import read_safetensors, write_safetensors
from edged.store.stored import open_release
from edged.store.trust_store import TrustStore
from tests.fakes.loader import Contests, Footprints, Memory, NoStandings

BOTH = "float32,int8"


def packed(proven, **fields):
    recipe = proven.recipe(precision=BOTH, **fields)
    return recipe, pack_both(recipe, proven.converted, proven.proven, None, proven.contents(recipe))


@pytest.fixture(scope="module")
def bundle(net, proven, tmp_path_factory):
    path = tmp_path_factory.mktemp("both") / "net-1.edgb"
    recipe = proven.recipe(samples=str(net / "samples.npz"), truth="right", precision=BOTH)
    return path, convert(recipe, path, empty_env="off")


def tensors(path, name):
    return read_safetensors(zipfile.ZipFile(path).read(name))


def test_each_is_an_artefact_with_answers_of_its_own(bundle, proven):
    path, report = bundle
    manifest = report.manifest
    assert [(a.runtime, a.precision, a.file) for a in manifest.artefacts] == [
        ("onnx", "float32", "model.onnx"), ("onnx", "int8", "model-int8.onnx"),
    ]  # fmt: skip
    exact, low = tensors(path, "golden.safetensors"), tensors(path, "golden-int8.safetensors")
    assert set(low) == {"out.scores"}, "the inputs are shared"
    own = manifest.golden_of(manifest.artefacts[1])
    assert len(low["out.scores"]) == own.rows <= manifest.golden.rows == len(exact["in.image"])
    gap = np.abs(low["out.scores"] - exact["out.scores"][: own.rows]).max()
    assert gap > 1e-4, "int8's own answers"
    assert manifest.golden.tolerances["scores"].atol < own.tolerances["scores"].atol
    assert manifest.parity["int8"]["lost"] <= 0.02
    assert read_manifest(path)[1] == manifest


def test_what_people_see(bundle):
    path, report = bundle
    shown = "\n".join(table.plain() for table in describe_report(report))
    assert "float32 (model.onnx), int8 (model-int8.onnx)" in shown
    data, manifest, signatures = read_manifest(path)
    assert "model-int8.onnx" in "\n".join(
        table.plain() for table in describe_bundle(data, manifest, signatures)
    )
    lines = verify_bundle(path, [], run=True)
    assert [line.split(":")[0] for line in lines[-2:]] == [
        'golden float32 "scores"', 'golden int8 "scores"',
    ]  # fmt: skip
    evidence = gather_evidence(path, report, budget_s=0)
    float32, int8 = evidence.artefacts
    assert (float32.precision, int8.precision) == ("float32", "int8")
    assert float32.max_abs < 1e-4 < int8.max_abs, "both are held against the framework"
    assert "model-int8.onnx" in render(evidence)


def test_both_files_are_run_in_an_empty_environment(net, proven, tmp_path, monkeypatch):
    ran = []

    def note(_target, data, golden, *, tolerances, **_):
        ran.append((data, len(golden["out.scores"]), tolerances["scores"].atol))

    monkeypatch.setattr("converters.workflow.prove_apart", note)
    recipe = proven.recipe(precision=BOTH)
    manifest = convert(recipe, tmp_path / "n.edgb", empty_env="off").manifest
    members = zipfile.ZipFile(tmp_path / "n.edgb")
    assert [data for data, _, _ in ran] == [members.read(a.file) for a in manifest.artefacts]
    promised = [manifest.golden_of(entry) for entry in manifest.artefacts]
    assert [rest for _, *rest in ran] == [[p.rows, p.tolerances["scores"].atol] for p in promised]


def test_the_same_recipe_gives_the_same_bytes(bundle, net, proven, tmp_path):
    recipe = proven.recipe(samples=str(net / "samples.npz"), truth="right", precision=BOTH)
    convert(recipe, tmp_path / "again.edgb", empty_env="off")
    assert (tmp_path / "again.edgb").read_bytes() == bundle[0].read_bytes()


def test_verify_sees_wrong_answers_of_either(bundle, tmp_path):
    path, report = bundle
    manifest, archive = report.manifest, zipfile.ZipFile(path)
    files = {entry.name: archive.read(entry.name) for entry in manifest.members}
    shifted = {"out.scores": read_safetensors(files["golden-int8.safetensors"])["out.scores"] + 9}
    files["golden-int8.safetensors"] = write_safetensors(shifted)
    members = tuple(member(m.name, m.type, files[m.name]) for m in manifest.members)
    changed = msgspec.structs.replace(manifest, members=members)
    pack(tmp_path / "changed.edgb", changed, files)
    with pytest.raises(GoldenMismatchError, match='int8 output "scores"'):
        verify_bundle(tmp_path / "changed.edgb", [], run=True)


@pytest.mark.parametrize("precision", ["auto", "float32", "int8"])
def test_a_device_takes_it(bundle, tmp_path, precision):
    """Real workers, real kernels; which one wins is the processor's affair."""
    path, _ = bundle
    digest = bundle_digest(read_manifest(path)[0])
    (tmp_path / digest).mkdir()
    stage(path, TrustStore.from_files([], threshold=1, required=False), tmp_path / digest)
    stored, standings, memory = open_release(tmp_path, digest), NoStandings(), Memory()
    contests = Contests()
    loader = Loader(
        lambda name: create_runtime(name, threads=1), standings, TrialConfig(), 1,
        measured=memory, device=lambda: "here", footprints=Footprints(), contests=contests,
    )  # fmt: skip
    config = ModelConfig(bundle="b", precision=precision)
    loaded = loader.load(LoadOrder(digest, stored, config), lambda: None)
    loaded.session.close()
    assert (loaded.missed, precision in ("auto", loaded.precision)) == ({}, True)
    assert (len(memory.noted), len(contests.noted)) == (1, int(precision == "auto"))
    assert len(standings.passed) == (2 if precision == "auto" else 1)


def test_out_of_budget_int8_is_left_out_and_said(net, proven, monkeypatch):
    faint = {"calibration": str(net / "faint.npz")}
    recipe, made = packed(proven, **faint)
    assert (made.also, made.precision) == (None, "float32")
    assert "int8 loses" in made.parity["left_out"]["int8"]
    plain = pack_as_proven(recipe, proven.proven)
    assert (made.data, made.edges) == (plain.data, plain.edges)
    assert any("left out of the bundle" in c.detail for c in proven.proven.checks.done)
    monkeypatch.setattr("converters.precision.lower.refuse_loss", lambda judged, budget: None)
    assert packed(proven, **faint)[1].also is not None, "only the budget keeps it out"


def test_nothing_to_gain_is_left_out(proven, monkeypatch):
    def nothing(*_, **_rest):
        raise UnsupportedModelError("no convolution")

    monkeypatch.setattr(module, "lower", nothing)
    assert packed(proven)[1].parity == {"left_out": {"int8": "no convolution"}}


def test_a_calibration_file_that_does_not_fit_is_no_reason_to_leave_it_out(proven, tmp_path):
    np.savez(tmp_path / "bad.npz", image=np.zeros((4, 3), "f4"))
    with pytest.raises(ConversionError):
        packed(proven, calibration=str(tmp_path / "bad.npz"))


def test_rows_without_a_place_in_int8_come_last(proven):
    _, made = packed(proven)
    edges = list(proven.proven.edges)
    assert set(made.edges) == set(edges)
    assert made.edges[: len(made.also.edges)] == made.also.edges
    rows = len(made.also.golden["out.scores"])
    for name, array in made.also.golden.items():
        if name.startswith("in."):
            np.testing.assert_array_equal(made.golden[name][:rows], array)


def test_needs_rows_to_calibrate_on(tmp_path):
    fields = {"source": "n.onnx", "name": "n", "release": 1, "samples": "s.npz", "precision": BOTH}
    with pytest.raises(ConversionError, match="precision float32,int8: expected a calibration"):
        make_recipe(fields)
