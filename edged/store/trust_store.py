"""Whose signatures count here: the device's list of trusted keys, and who was on it before.

Decides whether enough trusted keys signed. An empty list of keys trusts nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edged.errors import SignatureError
from edged.store.keys import check_key, fits, key_from_text, key_id, read_public_key
from edged.store.signing import DOCUMENT_DOMAIN, DOMAIN, parse_signatures

if TYPE_CHECKING:
    from edged.store.keys import PublicKey

_WORDS = {DOMAIN: ("manifest", "bundle"), DOCUMENT_DOMAIN: ("document", "document")}


class RetiredKeyError(SignatureError):
    """Signed by keys that were trusted once, and are not any more.

    Args:
        message: see ``EdgedError``.
        digest: of what was verified.
    """

    def __init__(self, message: str, digest: str) -> None:
        super().__init__(message)
        self.digest = digest


class FormerRole(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keys that were trusted once, in base64, and how many of them had to sign."""

    keys: tuple[str, ...]
    threshold: int


@dataclass(frozen=True, slots=True)
class TrustStore:
    """The keys a device trusts and how many of them must have signed.

    Args:
        keys: public keys by ``key_id``; put there by the operator.
        threshold: how many different keys must have signed; at least 1.
        required: whether a bundle with fewer trusted signatures is refused. A bad signature by a
            trusted key is refused either way.
        former: who was trusted before, the latest last; they verify nothing, but what they signed
            is told from what a stranger did.
        version: of the trust document that says so; 0 for keys of the configuration.
        spared: digests of releases that serve on although who signed them was forgotten.
    """

    keys: Mapping[str, PublicKey]
    threshold: int = 1
    required: bool = True
    former: tuple[FormerRole, ...] = ()
    version: int = 0
    spared: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.threshold < 1:
            raise SignatureError(
                f"the threshold of signatures must be at least 1; got {self.threshold}"
            )
        for name, key in self.keys.items():
            if name != key_id(key):
                raise SignatureError(f"trusted key {name[:16]} is filed under a name not its own")
            check_key(key, f"trusted key {name[:16]}")

    @classmethod
    def from_files(
        cls, paths: Iterable[Path | str], threshold: int = 1, required: bool = True
    ) -> TrustStore:
        """Read public keys in PEM form; two files with one key count once.

        Raises:
            SignatureError: a file is unreadable, not an Ed25519 public key, or a weak one; or
                there are fewer keys than signatures are required.
        """
        keys: dict[str, PublicKey] = {}
        for path in paths:
            public_key = read_public_key(path)
            keys[key_id(public_key)] = public_key
        if required and keys and threshold > len(keys):
            raise SignatureError(
                f"{threshold} signatures are required but only {len(keys)} different keys are "
                "trusted: no bundle could ever be accepted"
            )
        return cls(keys, threshold, required)

    def verify(
        self, manifest_bytes: bytes, signatures_json: bytes | None, domain: bytes = DOMAIN
    ) -> tuple[str, ...]:
        """Check the signatures over a manifest.

        Args:
            manifest_bytes: exactly as stored.
            signatures_json: the bytes of ``signatures.json``, or None when the bundle has none.
            domain: what the signatures are for.

        Returns:
            The ids of the trusted keys that signed, sorted. One vote a key; unknown keys have none.

        Raises:
            SignatureError: malformed, a false signature by a trusted key, or fewer than required.
            RetiredKeyError: likewise, but it was enough once.
        """
        entries = () if signatures_json is None else parse_signatures(signatures_json)
        good = []
        for name, signature in entries:
            key = self.keys.get(name)
            if key is None:
                continue
            if not fits(key, signature, domain + manifest_bytes):
                signed, whole = _WORDS[domain]
                raise SignatureError(
                    f"the signature by trusted key {name[:16]} does not fit this {signed}: "
                    f"the {whole} was changed after it was signed"
                )
            good.append(name)
        if self.required and len(good) < self.threshold:
            digest = hashlib.sha256(manifest_bytes).hexdigest()
            if digest in self.spared or self._was_enough(manifest_bytes, dict(entries)):
                raise RetiredKeyError(
                    f"signed by keys that were enough before version {self.version} of the trust "
                    "document, and are not any more; have it signed by a key of now: edged-convert "
                    "sign BUNDLE --key KEY",
                    digest,
                )
            raise SignatureError(self._missing([name for name, _ in entries], len(good)))
        return tuple(good)

    def _was_enough(self, manifest_bytes: bytes, entries: Mapping[str, bytes]) -> bool:
        """Whether enough keys of one time before signed."""
        for role in self.former:
            keys = [key_from_text(text, "a key that was trusted once") for text in role.keys]
            found = [(key, entries.get(key_id(key))) for key in keys]
            message = DOMAIN + manifest_bytes
            votes = sum(fits(key, one, message) for key, one in found if one is not None)
            if votes >= role.threshold:
                return True
        return False

    def _missing(self, signers: list[str], good: int) -> str:
        found = ", ".join(name[:16] for name in signers) or "nobody"
        trusted = ", ".join(name[:16] for name in sorted(self.keys)) or "none"
        return (
            f"signed by {good} of {self.threshold} required trusted keys (signers: {found}; "
            f"trusted here: {trusted}); {self._remedy()}"
        )

    def _remedy(self) -> str:
        if not self.version:
            return "sign it with a trusted key, or add the signer's .pub file to the trusted keys"
        return (
            f"have it signed by a key of version {self.version} of the trust document "
            "(edged-convert sign BUNDLE --key KEY), or bring a document that trusts its signer "
            "(edged trust apply FILE)"
        )
