"""Bundles checked and signed afterwards, as a device would look at them."""

import numpy as np
import pytest

from converters.pack import pack
from converters.verify import golden_part, sign_bundle, verify_bundle
from edged.errors import BundleError, GoldenMismatchError, IncompatibleError, SignatureError
from edged.store.bundle import read_manifest
from edged.store.golden import write_safetensors
from edged.store.keys import generate_key
from edged.store.signing import parse_signatures
from tests.bundles import make_bundle, make_manifest
from tests.models import double


@pytest.fixture
def keys(tmp_path):
    return [generate_key(tmp_path / name) for name in ("one", "two")]


@pytest.fixture
def bundle(tmp_path, keys):
    return make_bundle(tmp_path / "m.edgb", double(), key=keys[0][0])


def test_what_was_checked_is_said_a_line_each(bundle, keys):
    lines = verify_bundle(bundle, [keys[0][1]], run=True)
    assert [line.partition(":")[0] for line in lines] == [
        "manifest", "signature", "members", 'golden "y"'
    ]  # fmt: skip
    assert all(": ok" in line for line in lines)
    assert "not checked" in verify_bundle(bundle, [], run=False)[1]


def test_a_stranger_or_too_few_have_signed(bundle, keys):
    with pytest.raises(SignatureError):
        verify_bundle(bundle, [keys[1][1]], run=False)
    both = [public for _, public in keys]
    with pytest.raises(SignatureError):
        verify_bundle(bundle, both, run=False, threshold=2)
    with pytest.raises(SignatureError, match="no key is named"):
        verify_bundle(bundle, [], run=False, threshold=2)
    key_id = sign_bundle(bundle, keys[1][0])
    assert key_id[:16] in verify_bundle(bundle, both, run=False, threshold=2)[1]


def test_signing_changes_nothing_but_the_signatures(bundle, keys):
    before = read_manifest(bundle)
    sign_bundle(bundle, keys[1][0])
    sign_bundle(bundle, keys[1][0])
    after = read_manifest(bundle)
    assert after[0] == before[0]
    assert len(parse_signatures(before[2])) == 1
    assert len(parse_signatures(after[2])) == 2


def test_what_is_damaged_is_not_signed(bundle, keys):
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    bundle.write_bytes(data)
    with pytest.raises(BundleError):
        sign_bundle(bundle, keys[1][0])
    assert bundle.read_bytes() == data


def test_wrong_numbers_are_found_only_by_running_them(tmp_path):
    class Wrong:
        def __init__(self, model):
            self.data, self.inputs, self.outputs = model.data, model.inputs, model.outputs
            self._golden = model.golden

        def golden(self, rows):
            inputs, outputs = self._golden(rows)
            return inputs, {name: array + np.float32(0.5) for name, array in outputs.items()}

    path = make_bundle(tmp_path / "w.edgb", Wrong(double()))
    assert verify_bundle(path, [], run=False)
    with pytest.raises(GoldenMismatchError, match=r'"y": 4 of 4 golden rows .*0\.5'):
        verify_bundle(path, [], run=True)


def test_nothing_to_run_is_told_and_not_taken_for_good(tmp_path):
    path = make_bundle(tmp_path / "n.edgb", double(), golden=False)
    with pytest.raises(IncompatibleError, match="no golden samples"):
        verify_bundle(path, [], run=True)


def test_golden_samples_without_an_output_of_the_signature():
    tensors = {"in.x": np.ones(3), "out.y": np.ones(3)}
    assert list(golden_part(tensors, "out.", ["y"])) == ["y"]
    with pytest.raises(GoldenMismatchError, match="lack z"):
        golden_part(tensors, "out.", ["y", "z"])


def test_the_plain_writer_and_ours_make_bundles_that_verify(tmp_path):
    manifest, members = make_manifest(double())
    pack(tmp_path / "p.edgb", manifest, members)
    assert verify_bundle(tmp_path / "p.edgb", [], run=True)
    assert write_safetensors({"x": np.ones(2, "f4")})
