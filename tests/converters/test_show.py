"""Bundles as tables of text; a manifest's free fields may hold anything."""

import pytest

from converters.show import Table, describe_bundle, describe_float16, describe_int8
from edged.manifest import canonical_json
from tests.bundles import make_manifest
from tests.models import double


def shown(**fields):
    manifest, _ = make_manifest(double(), **fields)
    return "\n".join(t.plain() for t in describe_bundle(canonical_json(manifest), manifest, None))


def test_a_table_is_as_wide_as_its_cells_and_ends_no_line_with_blanks():
    table = Table("sizes", ("name", "bytes"), (("a", "1"), ("longer", "22")))
    assert table.plain() == "sizes\n  name    bytes\n  a       1\n  longer  22"
    assert Table("plain", (), (("a", ""),)).plain() == "plain\n  a"
    assert Table("nothing", (), ()).plain() == "nothing"


def test_what_a_bundle_says_of_itself():
    text = shown(
        parity={"grade": "checked", "rows": 64, "outputs": {"y": {"label_agreement": 0.5}}},
        provenance={
            "remedies": [{"trap": "erfc", "where": "gelu", "what": "was rewritten"}],
            "packages": {"onnx": "1.2"},
        },
    )
    for line in ("model      gate", "signed by  nobody", "checked: 64 rows", "50.00%",
                 "erfc  gelu   was rewritten", "packages.onnx  1.2", "model.onnx"):  # fmt: skip
        assert line in text, line


@pytest.mark.parametrize(
    "fields",
    [
        {"parity": {"outputs": [1, 2], "grade": 7, "int8": "small", "float16": None}},
        {"parity": {"outputs": {"y": "good"}, "left_out": "int8"}},
        {"parity": {"int8": {"bytes": 3, "lost": "much", "budget": None}}},
        {"provenance": {"remedies": [3, {"trap": None}, {"where": ["a"]}]}},
        {"provenance": {"remedies": {"trap": "x"}}},
    ],
)
def test_what_others_wrote_into_the_free_fields_is_shown_and_never_fatal(fields):
    assert "members" in shown(**fields)


def test_what_a_precision_costs():
    cost = {"float32": 0.98, "int8": 0.975, "lost": 0.005, "budget": 0.01, "metric": "accuracy",
            "output": "y", "rows": 200, "bytes": {"float32": 400, "int8": 100}}  # fmt: skip
    (table,) = describe_int8({"int8": cost})
    assert table.title == 'int8: 0.50% lost of 1.00% allowed, output "y" on 200 rows'
    assert table.rows == (("float32", "98.00%", "400"), ("int8", "97.50%", "100"))
    assert describe_int8({}) == []


def test_nodes_that_stay_in_float32_are_listed_with_their_reason():
    island = {"node": "Exp_0", "operator": "Exp", "reason": "reaches 70000"}
    (table,) = describe_float16({"float16": {"islands": [island, 3], "nodes": 9}})
    assert table.rows == (("Exp_0", "Exp", "reaches 70000"),)
    assert "? of 9 nodes" in table.title
    assert describe_float16({"float16": {"islands": []}})[0].rows == (("none", "", ""),)
