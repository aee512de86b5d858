import pytest

from converters.errors import ConversionError
from converters.recipe import Recipe, is_factory, load_recipe_fields, make_recipe

FIELDS = {"source": "m.onnx", "samples": "s.npz", "name": "m", "release": 1}


def test_a_recipe_is_checked_and_names_the_wrong_field():
    assert make_recipe(FIELDS).human_version == "1.0.0"
    with pytest.raises(ConversionError, match=r"`\$\.release`"):
        make_recipe({**FIELDS, "release": "one"})
    with pytest.raises(ConversionError, match="trust"):
        make_recipe({**FIELDS, "trust": True})


def test_the_digest_names_contents_and_not_paths():
    contents = {"source": "a" * 64, "samples": "b" * 64}
    here = make_recipe(FIELDS)
    there = make_recipe({**FIELDS, "source": "/elsewhere/m.onnx", "timeout_s": 5})
    assert here.digest(contents) == there.digest(contents)
    assert here.digest(contents) != here.digest({**contents, "source": "c" * 64})
    assert here.digest(contents) != make_recipe({**FIELDS, "opset": 17}).digest(contents)


def test_paths_of_a_recipe_file_are_relative_to_it(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("source: net:build\nsamples: s.npz\nweights: w.pt\nname: m\nrelease: 2\n")
    fields = load_recipe_fields(file)
    assert fields["source"] == "net:build"
    assert fields["samples"] == str(tmp_path / "s.npz")
    assert fields["weights"] == str(tmp_path / "w.pt")
    assert isinstance(make_recipe(fields), Recipe)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "!!python/object:os.system {}", ""])
def test_a_recipe_file_that_is_no_mapping_is_refused(tmp_path, text):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConversionError, match=r"r\.yaml"):
        load_recipe_fields(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    ("source", "expected"),
    [("a:b", True), ("a.b.c:build", True), ("a.onnx", False), ("C:/x.onnx", False), ("a:", False)],
)
def test_factories_are_told_from_paths(source, expected):
    assert is_factory(source) is expected
