"""YAML of recipes: one sentence with its line, nothing made, nothing taken twice."""

import pytest

from converters.documents import parse_yaml, read_small
from converters.errors import ConversionError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a:\t1\n\tb: 2", r"^r, line \d: not YAML"),
        ("a: 1\nb: 2\na: 3", r'^r, line 3: "a" is given twice'),
        ("a: {k: 1, l: {k: 1}, k: 2}", '"k" is given twice'),
        ("x: &x {b: 1}\n? [1]\n: 2", "not YAML"),
        (f"a: {'9' * 5000}", "not YAML that can be read"),
        ("a: " + "{a: " * 2000 + "1" + "}" * 2000, "too deeply nested"),
        ("a: &a [*a]", "alias bomb"),
        ("!!python/object/apply:os.mkdir [canary]", "line 1: the tag"),
        ("a: \0", "not YAML"),
    ],
)
def test_what_no_recipe_may_be(text, words):
    with pytest.raises(ConversionError, match=words) as told:
        parse_yaml(text, "r")
    assert "\n" not in told.value.message


def test_the_same_key_in_different_places_is_no_repetition():
    text = "a: {k: 1}\nb: {k: 1}\nc: [{k: 1}, {k: 2}, a, a]\nd: &x {k: 3}\ne: *x\nk: a\n"
    assert parse_yaml(text, "r")["e"] == {"k": 3}


def test_files_that_are_no_text(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes(b"name: a\nother: \xfc\n")
    with pytest.raises(ConversionError, match=r"r.yaml, line 2: byte 0xfc is not UTF-8"):
        read_small(path, 100, "")
    with pytest.raises(ConversionError, match="over 3 bytes; is this a recipe"):
        read_small(path, 3, "is this a recipe?")
    with pytest.raises(ConversionError, match="No such file"):
        read_small(tmp_path / "none", 3, "")
    with pytest.raises(ConversionError, match="null byte"):
        read_small(tmp_path / "a\0b", 3, "")
    path.write_bytes(b"\xef\xbb\xbfname: a")
    assert read_small(path, 100, "") == "name: a"
