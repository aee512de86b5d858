"""The manifest: one canonical form, and nothing that contradicts itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import ManifestError
from edged.manifest import (
    MANIFEST_CAP_BYTES,
    canonical_json,
    parse_manifest,
    version_tuple,
)
from tests.bundles import make_manifest
from tests.models import double

SHA = "ab" * 32


def document(**changes: Any) -> dict[str, Any]:
    """A whole manifest as plain values; a change of None takes a field away."""
    base: dict[str, Any] = {
        "format": "edged-bundle-v1",
        "name": "digits",
        "release": 3,
        "version": "1.2-rc1",
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 2]}],
        "outputs": [{"name": "p", "dtype": "float32", "shape": ["batch", 3]}],
        "artefacts": [
            {"runtime": "onnx", "file": "model.onnx", "precision": "float32", "opset": 17, "ir": 9}
        ],
        "members": [
            {"name": "model.onnx", "type": "onnx", "size": 10, "sha256": SHA},
            {"name": "golden.safetensors", "type": "safetensors", "size": 5, "sha256": SHA},
        ],
        "golden": {
            "file": "golden.safetensors",
            "rows": 4,
            "tolerances": {"p": {"rtol": 0.001, "atol": 0.0001}},
        },
        "input_processing": {"x": {"kind": "features", "names": ["a", "b"]}},
        "output_processing": {"p": {"activation": "softmax", "labels": ["0", "1", "2"]}},
        "parity": {"max_abs": 0.5},
        "provenance": {"source": "scikit-learn"},
        "requires": {"edged": "0.1"},
    }
    return {key: value for key, value in {**base, **changes}.items() if value is not None}


def as_bytes(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def nested(path: str, value: Any) -> dict[str, Any]:
    """The manifest with one nested value changed; ``path`` as inputs.0.shape."""
    made = json.loads(json.dumps(document()))
    *parents, last = [int(p) if p.isdigit() else p for p in path.split(".")]
    place = made
    for step in parents:
        place = place[step]
    place[last] = value
    return made


def test_reads_and_writes_the_same_bytes():
    data = as_bytes(document())
    manifest = parse_manifest(data)
    assert canonical_json(manifest) == data
    assert parse_manifest(canonical_json(manifest)) == manifest
    assert [str(spec) for spec in manifest.input_specs()] == ["float32[batch,2]"]
    assert [str(spec) for spec in manifest.output_specs()] == ["float32[batch,3]"]
    assert manifest.golden.tolerances["p"].rtol == 0.001


@pytest.mark.parametrize(
    ("inputs", "outputs", "row_wise"),
    [
        (["batch", 2], ["batch", 3], True),
        (["batch", 2], [3], False),
        ([1, 2], ["batch", 3], False),
        (["time", "batch"], ["batch", 3], False),
        (["batch", 2], ["batch", "time", 3], True),
    ],
)
def test_is_row_wise(inputs: list, outputs: list, row_wise: bool):
    changed = document(
        inputs=[{"name": "x", "dtype": "float32", "shape": inputs}],
        outputs=[{"name": "p", "dtype": "float32", "shape": outputs}],
        input_processing={},
        output_processing={},
    )
    assert parse_manifest(as_bytes(changed)).is_row_wise is row_wise


FORMS = {
    "spaces": json.dumps(document(), sort_keys=True).encode(),
    "order": json.dumps(document(), separators=(",", ":")).encode(),
    "newline at the end": as_bytes(document()) + b"\n",
    "defaults left out": as_bytes(document(parity=None)),
    "duplicate key": as_bytes(document()).replace(b'"release":3', b'"release":3,"release":3'),
    "escaped letters": as_bytes(document()).replace(b'"digits"', b'"d\\u0069gits"'),
    "raw non-ASCII": as_bytes(document(version="v\u00e9")).replace(b"\\u00e9", b"\xc3\xa9"),
    "float release": as_bytes(document()).replace(b'"release":3', b'"release":3.0'),
    "another number": as_bytes(document()).replace(b"0.001", b"1e-3"),
}


@pytest.mark.parametrize("name", FORMS)
def test_one_form_only(name: str):
    """What is signed has one spelling; two readers can never see two manifests in it."""
    with pytest.raises(ManifestError):
        parse_manifest(FORMS[name])


REFUSED = {
    "format": ("format", "edged-bundle-v2", "format"),
    "name is a path": ("name", "../digits", "name"),
    "name with a line end": ("name", "digits\n", "name"),
    "release 0": ("release", 0, "release"),
    "release over 2^53": ("release", 2**53, "release"),
    "empty version": ("version", "", "version"),
    "no inputs": ("inputs", [], "inputs"),
    "unknown field": ("command", "rm -rf", "command"),
    "dtype": ("inputs.0.dtype", "str", r'inputs\[0\].dtype: "str" is not a known dtype'),
    "rank 9": ("inputs.0.shape", [1] * 9, "shape"),
    "axis below 0": ("inputs.0.shape", [-1], "shape"),
    "axis name": ("inputs.0.shape", ["Batch Size"], "shape"),
    "member is a path": ("members.0.name", "../model.onnx", "name"),
    "member is absolute": ("members.0.name", "/etc/passwd", "name"),
    "member in capitals": ("members.0.name", "Model.onnx", "name"),
    "member with a line end": ("members.0.name", "model.onnx\n", "name"),
    "member type": ("members.0.type", "pickle", "type"),
    "member size": ("members.0.size", 0, "size"),
    "member hash": ("members.0.sha256", "AB" * 32, "sha256"),
    "member hash with a line end": ("members.0.sha256", SHA + "\n", "sha256"),
    "artefact is no member": ("artefacts.0.file", "other.onnx", r"artefacts\[0\].file: .*members"),
    "golden is no member": ("golden.file", "other", "golden.file: .*not among members"),
    "golden rows": ("golden.rows", 0, "rows"),
    "tolerance of nothing": (
        "golden.tolerances",
        {"q": {"rtol": 0.5, "atol": 0.5}},
        "not an output",
    ),
    "negative tolerance": ("golden.tolerances.p.rtol", -1, "rtol"),
    "processing of no input": (
        "input_processing",
        {"z": {"kind": "features", "names": ["a"]}},
        '"z" is not an input',
    ),
    "columns": (
        "input_processing.x.names",
        ["a", "b", "c"],
        r"3 columns do not fit float32\[batch,2\]",
    ),
    "words of no column": (
        "input_processing.x.words",
        {"z": {"words": ["a"]}},
        'words: "z" is not the name of one column',
    ),
    "no words": ("input_processing.x.words", {"a": {"words": []}}, "length >= 1"),
    "a long word": ("input_processing.x.words", {"a": {"words": ["x" * 1025]}}, "length <= 1024"),
    "a word twice": (
        "input_processing.x.words",
        {"a": {"words": ["r", "r"]}},
        '"a" has a word twice',
    ),
    "missing beyond the words": (
        "input_processing.x.words",
        {"a": {"words": ["r"], "missing": 2}},
        'column "a" has 1 words; missing cannot be 2',
    ),
    "missing as an unknown word that is not taken": (
        "input_processing.x.words",
        {"a": {"words": ["r"], "missing": -1}},
        "missing cannot be -1",
    ),
    "processing of no output": (
        "output_processing",
        {"z": {"activation": "none", "labels": []}},
        '"z" is not an output',
    ),
    "labels": ("output_processing.p.labels", ["a"], r"1 labels do not fit the last axis"),
    "text": ("output_processing.p.text", True, r"text is in bytes, the output is float32"),
    "requires": ("requires.edged", ">=0.1", "edged"),
    "requires with a line end": ("requires.edged", "0.1\n", "edged"),
    "axis with a line end": ("inputs.0.shape", ["batch\n", 2], "shape"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str):
    path, value, message = REFUSED[name]
    with pytest.raises(ManifestError, match=message):
        parse_manifest(as_bytes(nested(path, value)))


def test_columns_without_words_are_the_bytes_that_they_were():
    manifest = parse_manifest(as_bytes(document()))
    assert b'"x":{"kind":"features","names":["a","b"]}' in canonical_json(manifest)


def test_words_need_a_dtype_that_holds_their_numbers():
    fields = nested("input_processing.x.words", {"a": {"words": ["r"]}})
    assert parse_manifest(as_bytes(fields)).input_processing["x"].words["a"].words == ("r",)
    fields["inputs"][0]["dtype"] = "float16"
    with pytest.raises(ManifestError, match=r"x\.words: .* float16\[batch,2\]"):
        parse_manifest(as_bytes(fields))


@pytest.mark.parametrize("field", ["inputs", "outputs", "members"])
def test_names_twice(field: str):
    entries = document()[field]
    with pytest.raises(ManifestError, match=f"{field}: .* occurs twice"):
        parse_manifest(as_bytes(document(**{field: [entries[0], *entries]})))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format":NaN}',
        as_bytes(document()).replace(b"0.0001", b"NaN"),
        as_bytes(document()).replace(b"0.0001", b"1e999"),
        as_bytes(document()).replace(b"0.5", b"1e999"),
        as_bytes(document()).replace(b'"release":3', b'"release":' + b"9" * 5000),
        as_bytes(document()).replace(b'"scikit-learn"', b'"\\ud800"'),
    ],
    ids=[
        "empty", "null", "list", "cut", "utf8", "deep", "nan", "nan tolerance", "infinite tolerance",
        "infinity in parity", "digits", "half a surrogate",
    ],
)  # fmt: skip
def test_malformed(data: bytes):
    with pytest.raises(ManifestError):
        parse_manifest(data)


@pytest.mark.parametrize("depth", [10, 300, 900, 980, 2000, 5000, 90_000])
def test_deep_provenance_is_read_or_refused(depth: int):
    """How deep is too deep differs between Pythons; a RecursionError comes out of none."""
    data = as_bytes(document(provenance={})).replace(
        b'"provenance":{}', b'"provenance":' + b'{"a":' * depth + b"1" + b"}" * depth
    )
    try:
        parse_manifest(data)
    except ManifestError:
        assert depth > 10


def test_too_large():
    with pytest.raises(ManifestError, match=f"the limit is {MANIFEST_CAP_BYTES}"):
        parse_manifest(b" " * (MANIFEST_CAP_BYTES + 1))


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_only_manifest_errors(data: bytes):
    with pytest.raises(ManifestError):
        parse_manifest(data)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.sampled_from(sorted(document())), TREES)
@settings(max_examples=200, deadline=None)
def test_any_value_in_any_field_is_read_or_refused(field: str, value: Any):
    data = as_bytes({**document(), field: value})
    try:
        manifest = parse_manifest(data)
    except ManifestError:
        return
    assert canonical_json(manifest) == data


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0.1.0", (0, 1, 0)), ("1.26", (1, 26)), ("2.0.1.post1", (2, 0, 1)), ("1.2rc3", (1, 2, 3))],
)
def test_version_tuple(text: str, numbers: tuple[int, ...]):
    assert version_tuple(text) == numbers


INT8 = {"runtime": "onnx", "file": "model-int8.onnx", "precision": "int8", "opset": 17, "ir": 9}
OWN = {
    "file": "golden-int8.safetensors",
    "rows": 3,
    "tolerances": {"p": {"rtol": 0.0, "atol": 0.5}},
}


class TestTwoPrecisions:
    """Each model file may have answers of its own, to inputs that are shared."""

    def both(self, **own: Any) -> dict[str, Any]:
        plain = document()
        names = {"model-int8.onnx": "onnx", "golden-int8.safetensors": "safetensors"}
        more = [{"name": n, "type": t, "size": 9, "sha256": SHA} for n, t in names.items()]
        return plain | {
            "artefacts": [*plain["artefacts"], INT8 | {"golden": OWN | own}],
            "members": [*plain["members"], *more],
        }

    def test_own_golden(self):
        plain = self.both()
        manifest = parse_manifest(as_bytes(plain))
        assert json.loads(canonical_json(manifest)) == plain
        first, second = manifest.artefacts
        assert manifest.golden_of(first) is manifest.golden
        assert manifest.golden_of(second).tolerances["p"].atol == 0.5

    def test_a_bundle_from_before_keeps_its_form(self):
        assert b"golden-int8" not in canonical_json(parse_manifest(as_bytes(document())))
        assert (
            "golden"
            not in json.loads(canonical_json(parse_manifest(as_bytes(document()))))["artefacts"][0]
        )
        with pytest.raises(ManifestError, match="golden"):
            parse_manifest(as_bytes(nested("artefacts.0.golden", None)))

    @pytest.mark.parametrize(
        ("own", "message"),
        [
            ({"file": "other"}, r"artefacts\[1\].golden.file: .*not among members"),
            ({"rows": 5}, r"artefacts\[1\].golden.rows: 5 do not fit the 4 rows"),
            (
                {"tolerances": {"q": {"rtol": 0.0, "atol": 0.5}}},
                r"artefacts\[1\].golden.tolerances",
            ),
        ],
    )
    def test_refused(self, own: dict[str, Any], message: str):
        with pytest.raises(ManifestError, match=message):
            parse_manifest(as_bytes(self.both(**own)))

    def test_fewer_rows_of_a_call_that_has_none(self):
        plain = self.both()
        plain["outputs"][0]["shape"] = [4, 3]
        with pytest.raises(ManifestError, match="3 do not fit the 4 rows"):
            parse_manifest(as_bytes(plain))

    def test_answers_without_inputs(self):
        plain = self.both()
        with pytest.raises(ManifestError, match="its inputs are those of the bundle"):
            parse_manifest(as_bytes(plain | {"golden": None}))


class TestFloor:
    def test_a_bundle_without_one_keeps_its_form(self):
        manifest = make_manifest(double())[0]
        assert b"floor" not in canonical_json(manifest)

    def test_it_is_read_and_never_above_the_release_itself(self):
        manifest = make_manifest(double(), release=3, floor=3)[0]
        assert parse_manifest(canonical_json(manifest)).floor == 3
        with pytest.raises(ManifestError, match="floor: 4 is above the release itself"):
            parse_manifest(canonical_json(make_manifest(double(), release=3, floor=4)[0]))
