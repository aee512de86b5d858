"""Signatures over a manifest, and over a configuration that comes over MQTT: made and read.

Says nothing of whose word counts (``trust_store.py``). The part before the manifest keeps these
signatures from meaning anything elsewhere.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edged import decoding
from edged.errors import SignatureError
from edged.store.keys import key_id, raw_bytes, read_private_key

if TYPE_CHECKING:
    from edged.store.keys import PrivateKey

DOMAIN = b"edged-bundle-v1\0"
DOCUMENT_DOMAIN = b"edged-desired-v1\0"
"""Of a configuration that comes over MQTT: a signature of one kind says nothing of the other."""
SIGNATURES_CAP_BYTES = 64 << 10
SIGNATURES_CAP = 16
"""More signers than any release process has; each costs 0.2 ms to check."""
_SIGNATURE_BYTES = 64


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One signature, in base64, and the id of its key."""

    key: str
    signature: str


class _Signatures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    signatures: tuple[Entry, ...]


class Signer:
    """Holds a private key and signs manifests with it.

    Args:
        key: the private key.
    """

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key()
        self.key_id = key_id(self.public_key)

    @classmethod
    def from_file(cls, path: Path | str) -> Signer:
        """Read a private key in PKCS8 PEM form.

        Raises:
            SignatureError: unreadable, open to other users, or not an Ed25519 private key.
        """
        return cls(read_private_key(path))

    def sign(self, data: bytes, domain: bytes = DOMAIN) -> bytes:
        """The 64-byte signature over the manifest, or what else a domain stands for."""
        return self._key.sign(domain + data)


def sign_manifest(
    manifest_bytes: bytes, signers: Iterable[Signer], domain: bytes = DOMAIN
) -> bytes:
    """The bytes of ``signatures.json``: one signature a key, sorted by key."""
    by_key = {signer.key_id: signer.sign(manifest_bytes, domain) for signer in signers}
    return _encode(
        _Signatures(
            tuple(
                Entry(key, base64.b64encode(signature).decode("ascii"))
                for key, signature in sorted(by_key.items())
            )
        )
    )


def parse_signatures(data: bytes) -> tuple[tuple[str, bytes], ...]:
    """Read ``signatures.json`` into (key id, signature) pairs.

    Raises:
        SignatureError: over a cap, not canonical, unsorted, or the same key twice.
    """
    if len(data) > SIGNATURES_CAP_BYTES:
        raise SignatureError(
            f"signatures.json has {len(data)} bytes; the limit is {SIGNATURES_CAP_BYTES}"
        )
    try:
        parsed = decoding.decode(data, _Signatures)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise SignatureError(f"signatures.json: {exc}") from exc
    names = [entry.key for entry in parsed.signatures]
    if len(names) > SIGNATURES_CAP:
        raise SignatureError(
            f"signatures.json holds {len(names)} signatures; the limit is {SIGNATURES_CAP}"
        )
    if names != sorted(set(names)) or _encode(parsed) != data:
        raise SignatureError(
            "signatures.json is not in canonical form (no spaces, sorted by key, each key once)"
        )
    return tuple(
        (entry.key, raw_bytes(entry.signature, _SIGNATURE_BYTES)) for entry in parsed.signatures
    )


def _encode(signatures: _Signatures) -> bytes:
    return msgspec.json.encode(signatures, order="sorted")
