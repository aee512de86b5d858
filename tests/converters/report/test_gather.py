import json

import numpy as np
import pytest

import converters
from converters.errors import ConversionError
from converters.report.gather import evidence_for, gather_evidence
from converters.report.write import beside, write_report
from edged.errors import EdgedError


@pytest.fixture(scope="module")
def made(tmp_path_factory, build_linear):
    folder = tmp_path_factory.mktemp("report")
    (folder / "m.onnx").write_bytes(build_linear().SerializeToString())
    np.save(folder / "s.npy", np.random.default_rng(0).normal(size=(40, 3)).astype("f4"))
    recipe = converters.Recipe(
        source=str(folder / "m.onnx"), samples=str(folder / "s.npy"), name="m", release=2
    )
    return converters.convert(recipe, folder / "m-2.edgb")


def test_a_conversion_gives_all_sample_rows_and_its_steps(made):
    evidence = gather_evidence(made.path, made)
    assert (evidence.data, evidence.outputs[0].rows) == ("samples", 40)
    assert evidence.checks[0].name == "form"
    assert evidence.steps[-1].name == "packing"
    assert all(step.peak_bytes > 10 << 20 for step in evidence.steps)
    (artefact,) = evidence.artefacts
    assert artefact.nodes == {"MatMul": 1, "Add": 1}
    assert artefact.weights_bytes == 6 * 4 + 2 * 4
    assert [point.rows for point in artefact.latency] == [1, 2, 4, 8, 16, 32]
    assert evidence.bundle["digest"] == made.digest
    assert evidence.signature["inputs"] == ("x float32[batch,3]",)


def test_a_bundle_alone_gives_its_golden_rows(made):
    evidence = gather_evidence(made.path, budget_s=0)
    assert (evidence.data, evidence.outputs[0].rows) == ("golden", made.manifest.golden.rows)
    assert evidence.checks == evidence.steps == ()
    assert evidence.artefacts[0].latency == ()


def test_the_report_beside_a_bundle_is_taken_when_it_is_this_bundles(made, tmp_path):
    bundle = tmp_path / "m-2.edgb"
    bundle.write_bytes(made.path.read_bytes())
    kept = beside(bundle, "json")
    assert kept == tmp_path / "m-2.report.json"
    html = beside(bundle, "html")
    assert write_report(gather_evidence(bundle, made), html, kept) == [kept, html]
    assert evidence_for(bundle, kept).data == "samples"
    other = json.loads(kept.read_text())
    other["bundle"]["digest"] = "0" * 64
    kept.write_text(json.dumps(other))
    assert evidence_for(bundle, kept).data == "golden"
    kept.write_text("{")
    with pytest.raises(ConversionError, match="not a report of this version"):
        evidence_for(bundle, kept)


def test_a_tampered_bundle_is_not_run(made, tmp_path):
    data = bytearray(made.path.read_bytes())
    data[data.index(b"MatMul")] ^= 1
    (tmp_path / "m.edgb").write_bytes(data)
    with pytest.raises(EdgedError):
        gather_evidence(tmp_path / "m.edgb")
