"""Values out of another tool's description, checked before they are used."""

import pytest

from converters.errors import ConversionError
from converters.registries.resolved import mapping_of, model_name, text_of


def test_a_text_is_a_text():
    assert text_of({"a": "b"}, "a", "MLmodel") == "b"
    for value in (None, "", 3, ["b"]):
        with pytest.raises(ConversionError, match=r"MLmodel: a is .*, expected a text"):
            text_of({"a": value}, "a", "MLmodel")


def test_a_mapping_is_a_mapping_and_an_absent_one_empty():
    assert mapping_of({"a": {"b": 1}}, "a", "MLmodel") == {"b": 1}
    assert mapping_of({}, "a", "MLmodel") == mapping_of({"a": None}, "a", "MLmodel") == {}
    with pytest.raises(ConversionError, match="expected a mapping") as caught:
        mapping_of({"a": ["x" * 9000]}, "a", "MLmodel")
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("scorer", "scorer"),
        ("My model (v2)", "My-model-v2"),
        ("../../etc/passwd", "etc-passwd"),
        ("größe", "gr-e"),
        ("-._", "model"),
        ("", "model"),
        ("x" * 200, "x" * 64),
    ],
)
def test_names_of_other_tools_become_names_of_models(text, name):
    assert model_name(text) == name
