"""Words from a samples file to a bundle, and from a device's JSON to the framework's answers."""

import json

import msgspec
import numpy as np
import pytest

import converters
from converters.errors import ConversionError
from converters.session import open_session
from converters.show import describe_bundle
from edged.errors import ManifestError
from edged.processing.codecs import build_codec
from edged.specs import FeaturesInput, WordColumn
from edged.store.bundle import open_bundle
from tests.converters.worded import recipe_of_words, save_worded


def test_devices_send_words_and_get_the_frameworks_answers(tmp_path):
    model, table = save_worded(tmp_path)
    report = converters.convert(recipe_of_words(tmp_path), tmp_path / "w.edgb", trust=True)
    (work,) = report.manifest.input_processing.values()
    assert work.words["color"] == WordColumn(
        ("blau\u00e4", "green", "red"), unknown=True, missing=-1
    )
    assert {"unknown-words"} <= set(report.manifest.parity["edges"])
    assert "color takes blau\u00e4, green, red" in str(describe_bundle(b"", report.manifest, None))
    with open_bundle(report.path) as bundle:
        model_file = next(one for one in bundle.manifest.members if one.type == "onnx")
        run = open_session(b"".join(bundle.stream(model_file)))
    rows = table.head(9).to_dict("records")
    rows[3]["color"], rows[4]["color"], rows[5]["color"] = "mauve", None, "Red"
    codec = build_codec("json", report.manifest, input_name=None, fields=())
    got = run(codec.decode(json.dumps(rows).encode()))["probabilities"]
    raw = table.head(9).assign(color=[row["color"] for row in rows]).astype({"color": object})
    np.testing.assert_allclose(got, model.predict_proba(raw), atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"precision": "float16"}, 'column "color": "blau\u00e4" is not a number; words are taken'),
        ({"truth": "color"}, '"color" expects one whole number a row .* got "blau'),
    ],
)
def test_words_are_refused_where_they_are_not_carried(tmp_path, fields, words):
    save_worded(tmp_path)
    with pytest.raises(ConversionError, match=words):
        converters.convert(recipe_of_words(tmp_path, **fields), tmp_path / "w.edgb", trust=True)
    assert not (tmp_path / "w.edgb").exists()


def test_words_are_refused_for_other_sources(linear, tmp_path):
    recipe = linear()
    (tmp_path / "rows.csv").write_text("a,b,c\n1,2,red\n3,4,blue\n")
    recipe = msgspec.structs.replace(recipe, samples=str(tmp_path / "rows.csv"))
    with pytest.raises(
        ConversionError, match='"blue" is not a number; words are taken for a scikit'
    ):
        converters.convert(recipe, tmp_path / "l.edgb")


def test_a_recipe_may_say_the_words_of_any_model_that_takes_numbers(linear, tmp_path):
    column = WordColumn(("blue", "red"), missing=2)
    work = FeaturesInput(("mass", "color", "size"), {"color": column})
    recipe = msgspec.structs.replace(linear(), input_processing={"*": work})
    report = converters.convert(recipe, tmp_path / "l.edgb")
    assert report.manifest.input_processing["x"] == work
    wrong = msgspec.structs.replace(work, words={"colour": column})
    recipe = msgspec.structs.replace(recipe, input_processing={"*": wrong})
    with pytest.raises(ManifestError, match='"colour" is not the name of one column'):
        converters.convert(recipe, tmp_path / "m.edgb")
    assert not (tmp_path / "m.edgb").exists()
