"""Whose signatures count: who is believed, and who is not."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from edged.errors import SignatureError
from edged.store.keys import generate_key
from edged.store.signing import Signer, sign_manifest
from edged.store.trust_store import TrustStore
from tests.store.test_signing import canonical

MANIFEST = b'{"name":"gate"}'


@pytest.fixture
def three_keys(tmp_path: Path) -> list[tuple[Signer, Path]]:
    made = [generate_key(tmp_path / name) for name in ("one", "two", "three")]
    return [(Signer.from_file(private), public) for private, public in made]


class TestVerify:
    def test_good(self, three_keys):
        signer, public = three_keys[0]
        trust = TrustStore.from_files([public])
        assert trust.verify(MANIFEST, sign_manifest(MANIFEST, [signer])) == (signer.key_id,)

    def test_signed_by_unknown_key(self, three_keys):
        trust = TrustStore.from_files([three_keys[0][1]])
        with pytest.raises(SignatureError, match="0 of 1 required"):
            trust.verify(MANIFEST, sign_manifest(MANIFEST, [three_keys[1][0]]))

    def test_what_to_do_where_a_document_says_who_is_trusted(self, three_keys):
        trust = TrustStore.from_files([three_keys[0][1]])
        with pytest.raises(SignatureError, match=r"add the signer's \.pub file"):
            trust.verify(MANIFEST, None)
        with pytest.raises(SignatureError, match=r"a key of version 3 .*edged trust apply") as said:
            replace(trust, version=3).verify(MANIFEST, None)
        assert ".pub" not in said.value.message

    def test_unsigned(self, three_keys):
        public = three_keys[0][1]
        with pytest.raises(SignatureError, match="signers: nobody"):
            TrustStore.from_files([public]).verify(MANIFEST, None)
        assert TrustStore.from_files([public], required=False).verify(MANIFEST, None) == ()

    @pytest.mark.hostile("R30 an empty or missing policy denies")
    def test_no_trusted_keys_trusts_nobody(self, three_keys):
        """R30: an empty policy denies."""
        with pytest.raises(SignatureError, match="trusted here: none"):
            TrustStore.from_files([]).verify(MANIFEST, sign_manifest(MANIFEST, [three_keys[0][0]]))

    @pytest.mark.parametrize("required", [True, False])
    def test_changed_manifest_is_refused_even_when_signing_is_optional(self, three_keys, required):
        signer, public = three_keys[0]
        trust = TrustStore.from_files([public], required=required)
        with pytest.raises(SignatureError, match="changed after"):
            trust.verify(MANIFEST + b" ", sign_manifest(MANIFEST, [signer]))

    def test_threshold(self, three_keys):
        signers = [signer for signer, _ in three_keys]
        trust = TrustStore.from_files([public for _, public in three_keys], threshold=2)
        with pytest.raises(SignatureError, match="1 of 2 required"):
            trust.verify(MANIFEST, sign_manifest(MANIFEST, signers[:1]))
        two = trust.verify(MANIFEST, sign_manifest(MANIFEST, signers[:2]))
        assert list(two) == sorted(signer.key_id for signer in signers[:2])

    def test_one_vote_per_key(self, three_keys):
        """Twice the same key, in the file or in the trust store, is one signer."""
        (one, public), (_, other) = three_keys[:2]
        trust = TrustStore.from_files([public, public, other], threshold=2)
        assert len(trust.keys) == 2
        entry = {"key": one.key_id, "signature": base64.b64encode(one.sign(MANIFEST)).decode()}
        with pytest.raises(SignatureError, match="each key once"):
            trust.verify(MANIFEST, canonical([entry, entry]))
        with pytest.raises(SignatureError, match="1 of 2"):
            trust.verify(MANIFEST, sign_manifest(MANIFEST, [one, one]))

    def test_domain_keeps_other_signatures_out(self, three_keys):
        signer, public = three_keys[0]
        bare = base64.b64encode(signer._key.sign(MANIFEST)).decode()
        with pytest.raises(SignatureError, match="does not fit"):
            TrustStore.from_files([public]).verify(
                MANIFEST, canonical([{"key": signer.key_id, "signature": bare}])
            )

    def test_impossible_thresholds(self, three_keys):
        with pytest.raises(SignatureError, match="only 1 different"):
            TrustStore.from_files([three_keys[0][1]], threshold=2)
        with pytest.raises(SignatureError, match="at least 1"):
            TrustStore({}, threshold=0)
        with pytest.raises(SignatureError, match="not its own"):
            TrustStore({"0" * 64: three_keys[0][0].public_key})
