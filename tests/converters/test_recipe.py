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


@pytest.mark.parametrize(
    ("text", "share"), [("0.5%", 0.005), (" 2 % ", 0.02), (0.01, 0.01), ("0", 0)]
)
def test_a_share_may_be_written_in_percent(text, share):
    assert make_recipe({**FIELDS, "max_accuracy_drop": text}).max_accuracy_drop == share


@pytest.mark.parametrize("text", ["150%", "-1%", "half", "%", "nan%", "inf", True, ""])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(ConversionError, match="max_accuracy_drop"):
        make_recipe({**FIELDS, "max_accuracy_drop": text})


def test_int8_needs_rows_to_calibrate_on_and_to_be_judged_by():
    fields = {**FIELDS, "precision": "int8"}
    with pytest.raises(ConversionError, match="expected a calibration file"):
        make_recipe(fields)
    fields["calibration"] = "c.npz"
    assert make_recipe(fields).precision == "int8"
    with pytest.raises(ConversionError, match=r"expected --samples.*got no samples"):
        make_recipe({**fields, "samples": ""})
    with pytest.raises(ConversionError, match="got batch none"):
        make_recipe({**fields, "batch": "none"})


def test_what_calibrates_is_part_of_the_digest(tmp_path):
    (tmp_path / "r.yaml").write_text("source: m.onnx\nprecision: int8\ncalibration: c.npz\n")
    assert load_recipe_fields(tmp_path / "r.yaml")["calibration"] == str(tmp_path / "c.npz")
    contents = {"source": "a" * 64, "samples": "b" * 64, "calibration": "c" * 64}
    recipe = make_recipe({**FIELDS, "precision": "int8", "calibration": "c.npz"})
    assert recipe.digest(contents) != recipe.digest({**contents, "calibration": "d" * 64})
    moved = make_recipe({**FIELDS, "precision": "int8", "calibration": "/elsewhere/c.npz"})
    assert recipe.digest(contents) == moved.digest(contents)
