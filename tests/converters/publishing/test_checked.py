"""What goes out is a copy of what was checked."""

import hashlib

import pytest

from converters.publishing.checked import checked
from edged.errors import BundleError, SignatureError
from edged.store.bundle import bundle_digest, read_manifest


def test_the_copy_is_what_was_checked_whatever_happens_to_the_file(bundle, keys):
    before = bundle.read_bytes()
    with checked(bundle, [keys[0][1]], 1) as source:
        bundle.write_bytes(b"something else")
        assert source.path.read_bytes() == before
        assert source.sha256 == hashlib.sha256(before).hexdigest()
        assert source.digest == bundle_digest(read_manifest(source.path)[0])
        assert source.file_name == "gate-1.edgb"
        assert any(line.startswith("signature: ok") for line in source.said)
    assert not source.path.exists()


def test_what_is_no_bundle_or_not_signed_enough(bundle, keys, tmp_path):
    for path in (tmp_path / "none.edgb", tmp_path):
        with pytest.raises(BundleError, match="no such file"), checked(path, [], 1):
            pass
    both = [keys[0][1], keys[1][1]]
    with pytest.raises(SignatureError), checked(bundle, both, 2):
        pass
    bundle.write_bytes(bundle.read_bytes()[:-40])
    with pytest.raises(BundleError), checked(bundle, [], 1):
        pass
