"""Keys: how they are kept, and that a weak one never gets in."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edged.errors import SignatureError
from edged.store import keys as store_keys
from edged.store.keys import generate_key, key_id
from edged.store.signing import Signer
from edged.store.trust_store import TrustStore

P = 2**255 - 19


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

    def test_a_private_key_is_told_from_what_is_no_key(self, tmp_path: Path):
        private, _ = generate_key(tmp_path / "k")
        with pytest.raises(SignatureError, match="a private key, to be kept elsewhere"):
            TrustStore.from_files([private])

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
        for y in store_keys._SMALL_ORDER_Y:
            assert _double(_double(_double(y))) == 1
        base = 4 * pow(5, -1, P) % P
        assert _double(_double(_double(base))) != 1
        assert len(store_keys._SMALL_ORDER_Y) == 5

    @pytest.mark.parametrize("y", [*sorted(store_keys._SMALL_ORDER_Y), P, P + 1, 2**255 - 1])
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


def test_a_pipe_by_a_keys_name_keeps_nobody_waiting(tmp_path: Path):
    os.mkfifo(tmp_path / "k", 0o600)
    with pytest.raises(SignatureError, match="cannot read the key: not a file"):
        Signer.from_file(tmp_path / "k")
