"""From what was proven to a manifest and its members: nothing lost, nothing of the machine."""

import msgspec
import numpy as np
import pytest

from converters.compose import compose, pack_as_proven
from converters.gate.prove import prove
from converters.graph import serialize
from converters.pack import pack
from converters.recipe import Recipe
from converters.sandbox import Converted
from converters.sources.base import Remedy, SourceResult
from converters.verify import verify_bundle
from edged.manifest import canonical_json
from edged.store.golden import read_safetensors

ROWS = np.random.default_rng(0).normal(size=(30, 3)).astype("f4")
EDGES = {"zeros": ({"x": np.zeros((1, 3), "f4")}, {"y": np.array([[0.5, -0.5]], "f4")})}
RECIPE = Recipe(
    source="m",
    samples="s",
    name="m",
    release=4,
    floor=3,
    golden_rows=8,
    only_for={"class": ("gate",)},
)
CONTENTS = {"source": "a" * 64, "samples": "b" * 64}


@pytest.fixture
def made(build_linear):
    """Returns ``made(recipe, contents) -> (manifest, members)`` through the gate itself."""

    def make(recipe=RECIPE, contents=CONTENTS):
        model = build_linear()
        outputs = {
            "y": ROWS @ np.array([[1, 2], [3, 4], [5, 6]], "f4") + np.array([0.5, -0.5], "f4")
        }
        result = SourceResult(
            input_names=("x",), output_names=("y",), reference="by hand",
            framework={"other": "1.2"}, remedies=(Remedy("erfc", "was rewritten", "gelu"),),
        )  # fmt: skip
        converted = Converted(serialize(model), {"x": ROWS}, outputs, EDGES, result)
        proven = prove(recipe, converted)
        packed = pack_as_proven(recipe, proven)
        return compose(recipe, converted, proven, packed, columns=(), contents=contents)

    return make


def test_every_member_is_in_the_manifest_and_the_whole_verifies(made, tmp_path):
    manifest, members = made()
    assert {entry.name for entry in manifest.members} == set(members)
    assert (manifest.name, manifest.release, manifest.floor) == ("m", 4, 3)
    assert manifest.targets == {"class": ("gate",)}
    pack(tmp_path / "m.edgb", manifest, members)
    assert verify_bundle(tmp_path / "m.edgb", [], run=True)


def test_edge_cases_travel_behind_the_rows(made):
    manifest, members = made()
    golden = read_safetensors(members[manifest.golden.file])
    assert manifest.golden.rows == len(golden["in.x"]) == 9
    assert manifest.parity["edges"] == ["zeros"]
    np.testing.assert_array_equal(golden["in.x"][-1], [0, 0, 0])
    np.testing.assert_array_equal(golden["out.y"][-1], [0.5, -0.5])


def test_the_grade_is_only_for_the_users_own_data(made):
    assert made()[0].parity["grade"] == "verified"
    example = msgspec.structs.replace(RECIPE, samples_are="example")
    assert made(example)[0].parity["grade"] == "checked"
    without = {"source": "a" * 64}
    fields = made(msgspec.structs.replace(RECIPE, samples=""), without)[0].parity
    assert fields["grade"] == "checked"
    assert "samples_sha256" not in fields


def test_provenance_says_by_what_and_of_what_and_neither_when_nor_where(made):
    manifest, _ = made()
    fields = manifest.provenance
    assert fields["framework"] == {"other": "1.2"}
    assert fields["source"] == "a" * 64
    assert fields["remedies"] == [{"trap": "erfc", "what": "was rewritten", "where": "gelu"}]
    assert set(fields["packages"]) == {"onnx", "onnxruntime", "numpy", "msgspec"}
    assert fields["recipe_sha256"] == RECIPE.digest(CONTENTS)


def test_the_same_numbers_give_the_same_bytes(made):
    first, second = made(), made()
    assert canonical_json(first[0]) == canonical_json(second[0])
    assert first[1] == second[1]
