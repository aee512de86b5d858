"""What others are told of a pipeline."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from edged.errors import ManifestError
from edged.manifest import canonical_json, parse_manifest
from edged.pipelines.describe import definition_of, describe
from edged.specs import FeaturesInput, OutputProcessing, TextInput
from edged.store.bundle import check_names
from tests.fakes.manifests import make_manifest
from tests.fakes.pipelines import planned
from tests.fakes.token_files import write_token_file

ONE = make_manifest(
    [("x", "float32", ("batch", 2))],
    [("y", "float32", ("batch", 3))],
    input_processing={"x": FeaturesInput(("a", "b"))},
    output_processing={"y": OutputProcessing("softmax", ("p", "q", "r"))},
)
TEXT = """\
    release: 5
    inputs: {x: "float32[batch,2]", k: "float32[batch,2]"}
    steps:
    - {name: a, model: one, inputs: x}
    - {name: b, compute: a * 2}
    - {name: c, compute: k * 2}
    - {name: d, model: one, inputs: c}
    outputs: {y: a, twice: b}
"""


def test_it_is_a_manifest_as_clients_know_it():
    plan, _ = planned(TEXT, one=ONE)
    manifest = describe(plan)
    assert parse_manifest(canonical_json(manifest)) == manifest
    assert (manifest.name, manifest.release, manifest.is_row_wise) == ("p", 5, True)
    assert manifest.members[0].sha256 == hashlib.sha256(definition_of(plan)).hexdigest()


def test_words_hold_where_a_tensor_is_passed_on_and_nowhere_else():
    manifest = describe(planned(TEXT, one=ONE)[0])
    assert manifest.input_processing == {"x": FeaturesInput(("a", "b"))}
    assert manifest.output_processing == {"y": OutputProcessing("softmax", ("p", "q", "r"))}


@pytest.mark.hostile("G19 a bundle that says it is a pipeline")
def test_no_bundle_may_say_that_it_is_one():
    with pytest.raises(ManifestError, match="a pipeline is written into the configuration"):
        check_names(describe(planned(TEXT, one=ONE)[0]))


def test_texts_are_said_to_be_some(tmp_path):
    (tmp_path / "c.txt").write_text("a\n")
    model = make_manifest([("x", "float32", (1, 2))], [("y", "float32", ("n", "t", 3))])
    text = f"""\
    inputs: {{x: "float32[1,2]"}}
    steps:
    - {{name: a, model: one, inputs: x}}
    - {{name: b, ctc: {{from: a, characters: {tmp_path}/c.txt}}}}
    - {{name: c, first: [b.text]}}
    outputs: {{y: a, t: c, s: b.score}}
"""
    manifest = describe(planned(text, one=model)[0])
    assert manifest.output_processing == {"t": OutputProcessing(text=True)}
    assert parse_manifest(canonical_json(manifest)) == manifest


def test_an_input_that_a_step_reads_as_text(tmp_path: Path):
    model = make_manifest([("ids", "int64", ("batch", "words"))], [("y", "float32", ("batch", 3))])
    write_token_file(tmp_path / "t.json")
    text = f"""\
    inputs: {{a: "uint8[batch,letters]", b: "uint8[batch,letters]"}}
    steps:
    - {{name: t, tokens: {{from: a, file: {tmp_path}/t.json, length: 9}}}}
    - {{name: m, model: m, inputs: t.ids}}
    outputs: {{y: m}}
"""
    plan, problems = planned(text, m=model)
    assert not problems
    manifest = describe(plan)
    assert manifest.input_processing == {"a": TextInput()}
    assert parse_manifest(canonical_json(manifest)) == manifest
