"""MLflow's URIs, taken apart and written again."""

import pytest

from converters.errors import ConversionError
from converters.registries.mlflow_uri import ModelUri, RunUri, is_alias, is_mlflow_uri, parse_uri


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("models:/a b@champion", ModelUri("a b", alias="champion")),
        ("models:/scorer/3", ModelUri("scorer", version=3)),
        ("models:/scorer/latest", ModelUri("scorer")),
        ("models:/m-0123", ModelUri(model_id="m-0123")),
        ("runs:/ab12/models/net", RunUri("ab12", "models/net")),
    ],
)
def test_uris(text, uri):
    assert parse_uri(text) == uri
    assert parse_uri(uri.said) == uri


@pytest.mark.parametrize(
    "text",
    ["models:/", "models:/a/b/c", "models:/a@", "models:/@b", "models:/../3", "runs:/x",
     "runs:/x/../../etc", "models:/a/Production", "models:/a/-1"],
)  # fmt: skip
def test_other_texts_are_refused_with_the_forms(text):
    with pytest.raises(ConversionError, match="models:/NAME@ALIAS"):
        parse_uri(text)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("champion", True), ("a-b_1", True), ("vx", True), ("v3", False), ("V12", False),
     ("Latest", False), ("a b", False), ("", False), ("ä", False)],
)  # fmt: skip
def test_aliases_that_mean_no_version(text, is_one):
    assert is_alias(text) is is_one


def test_what_is_a_uri_at_all():
    assert is_mlflow_uri("models:/a/1")
    assert is_mlflow_uri("runs:/a/b")
    assert not is_mlflow_uri("models/a.onnx")
