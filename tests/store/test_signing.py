"""Signatures: who is believed, who is not, and that a weak key never gets in."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import EdgedError, SignatureError
from edged.store import signing
from edged.store.signing import Signer, TrustStore, generate_key, key_id, sign_manifest

MANIFEST = b'{"name":"gate"}'
P = 2**255 - 19


@pytest.fixture
def three_keys(tmp_path: Path) -> list[tuple[Signer, Path]]:
    made = [generate_key(tmp_path / name) for name in ("one", "two", "three")]
    return [(Signer.from_file(private), public) for private, public in made]


def canonical(entries: list[dict[str, str]]) -> bytes:
    return json.dumps({"signatures": entries}, separators=(",", ":")).encode()


class TestKeys:
    def test_files_and_modes(self, tmp_path: Path):
        private, public = generate_key(tmp_path / "release.v1")
        assert (private.name, public.name) == ("release.v1.key", "release.v1.pub")
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
        assert private.read_text().startswith("-----BEGIN PRIVATE KEY-----")
        assert public.read_text().startswith("-----BEGIN PUBLIC KEY-----")

    @pytest.mark.parametrize("suffix", [".key", ".pub"])
    def test_never_overwritten(self, tmp_path: Path, suffix: str):
        (tmp_path / f"k{suffix}").symlink_to(tmp_path / "nowhere")
        with pytest.raises(SignatureError, match="exists already"):
            generate_key(tmp_path / "k")

    def test_private_key_open_to_others_is_refused(self, tmp_path: Path):
        private, _ = generate_key(tmp_path / "k")
        private.chmod(0o640)
        with pytest.raises(SignatureError, match="chmod 600"):
            Signer.from_file(private)

    @pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN PRIVATE KEY-----\n"])
    def test_not_a_key(self, tmp_path: Path, content: bytes):
        path = tmp_path / "x"
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(SignatureError, match="PEM"):
            Signer.from_file(path)
        with pytest.raises(SignatureError, match="PEM"):
            TrustStore.from_files([path])

    def test_missing_file(self, tmp_path: Path):
        with pytest.raises(SignatureError, match="cannot read"):
            TrustStore.from_files([tmp_path / "nowhere.pub"])

    def test_another_kind_of_key(self, tmp_path: Path):
        key = ec.generate_private_key(ec.SECP256R1())
        public, private = tmp_path / "k.pub", tmp_path / "k.key"
        public.write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        private.chmod(0o600)
        with pytest.raises(SignatureError, match="another kind"):
            TrustStore.from_files([public])
        with pytest.raises(SignatureError, match="another kind"):
            Signer.from_file(private)


def _double(y: int) -> int:
    """The y coordinate of 2P of a point on edwards25519, from y of P alone."""
    d = -121665 * pow(121666, -1, P) % P
    u, v = (y * y - 1) % P, (d * y * y + 1) % P
    x2 = u * pow(v, -1, P) % P
    t = d * x2 * y * y % P  # d x1 x2 y1 y2 with both points the same
    return (y * y + x2) * pow(1 - t, -1, P) % P


@pytest.mark.hostile("R40 weak Ed25519 keys are refused")
class TestSmallOrderKeys:
    """R40: a small-order public key accepts a forged signature over any message."""

    def test_the_table_is_the_whole_8_torsion(self):
        """y of P is in the table exactly when 8P is the identity (y = 1)."""
        for y in signing._SMALL_ORDER_Y:
            assert _double(_double(_double(y))) == 1
        base = 4 * pow(5, -1, P) % P
        assert _double(_double(_double(base))) != 1
        assert len(signing._SMALL_ORDER_Y) == 5

    @pytest.mark.parametrize("y", [*sorted(signing._SMALL_ORDER_Y), P, P + 1, 2**255 - 1])
    @pytest.mark.parametrize("sign", [0, 1])
    def test_refused_from_a_file(self, tmp_path: Path, y: int, sign: int):
        raw = (y | sign << 255).to_bytes(32, "little")
        key = Ed25519PublicKey.from_public_bytes(raw)
        path = tmp_path / "weak.pub"
        path.write_bytes(
            key.public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        with pytest.raises(SignatureError, match="weak"):
            TrustStore.from_files([path])
        with pytest.raises(SignatureError, match="weak"):
            TrustStore({key_id(key): key})

    def test_control_the_library_itself_is_fooled(self):
        """Negative control: without the check this forgery passes."""
        identity = (1).to_bytes(32, "little")
        Ed25519PublicKey.from_public_bytes(identity).verify(identity + bytes(32), b"any message")


class TestVerify:
    def test_good(self, three_keys):
        signer, public = three_keys[0]
        trust = TrustStore.from_files([public])
        assert trust.verify(MANIFEST, sign_manifest(MANIFEST, [signer])) == (signer.key_id,)

    def test_signed_by_unknown_key(self, three_keys):
        trust = TrustStore.from_files([three_keys[0][1]])
        with pytest.raises(SignatureError, match="0 of 1 required"):
            trust.verify(MANIFEST, sign_manifest(MANIFEST, [three_keys[1][0]]))

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

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "signatures.json"),
            (b"{}", "signatures"),
            (b'{"signatures":[],"x":1}', "x"),
            (b'{"signatures": []}', "canonical"),
            (b'{"signatures":[{"key":"k","signature":"!"}]}', "base64"),
            (b'{"signatures":[{"key":"k","signature":"AAAA"}]}', "3 bytes"),
            (b" " * (65 << 10), "limit"),
            (canonical([{"key": f"{i:02}", "signature": ""} for i in range(17)]), "limit is 16"),
            (canonical([{"key": k, "signature": ""} for k in ("b", "a")]), "sorted"),
        ],
    )
    def test_malformed(self, three_keys, data: bytes, message: str):
        with pytest.raises(SignatureError, match=message):
            TrustStore.from_files([three_keys[0][1]], required=False).verify(MANIFEST, data)

    def test_impossible_thresholds(self, three_keys):
        with pytest.raises(SignatureError, match="only 1 different"):
            TrustStore.from_files([three_keys[0][1]], threshold=2)
        with pytest.raises(SignatureError, match="at least 1"):
            TrustStore({}, threshold=0)
        with pytest.raises(SignatureError, match="not its own"):
            TrustStore({"0" * 64: three_keys[0][0].public_key})


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_noise_raises_our_errors_only(noise: bytes):
    try:
        signing.parse_signatures(noise)
    except EdgedError:
        return


def test_a_pipe_by_a_keys_name_keeps_nobody_waiting(tmp_path: Path):
    os.mkfifo(tmp_path / "k", 0o600)
    with pytest.raises(SignatureError, match="cannot read the key: not a file"):
        Signer.from_file(tmp_path / "k")
