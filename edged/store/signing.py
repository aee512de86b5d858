"""Who signed a bundle: Ed25519 over the manifest's bytes, and the device's list of trusted keys.

Decides whether enough trusted keys signed. Never takes a key from a bundle and never reads one
from a path that a bundle names: keys come from the operator alone. An empty list of keys trusts
nobody. The part before the manifest keeps these signatures from meaning anything elsewhere.
The package ``cryptography`` takes 7 MB, so it is imported when a key is first read or made.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edged import decoding
from edged.errors import SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    PublicKey = Ed25519PublicKey

DOMAIN = b"edged-bundle-v1\0"
DOCUMENT_DOMAIN = b"edged-desired-v1\0"
"""Of a configuration that comes over MQTT: a signature of one kind says nothing of the other."""
_WORDS = {DOMAIN: ("manifest", "bundle"), DOCUMENT_DOMAIN: ("document", "document")}
SIGNATURES_CAP_BYTES = 64 << 10
SIGNATURES_CAP = 16
"""More signers than any release process has; each costs 0.2 ms to check."""
_KEY_FILE_CAP_BYTES = 16 << 10
_SIGNATURE_BYTES = 64
_KEY_BYTES = 32

_P = 2**255 - 19
# The order-8 points; with 0 (order 4), 1 (the identity) and -1 (order 2) these are the only y
# coordinates of small order. Such a "key" accepts forged signatures over any message.
_Y8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER_Y = frozenset({0, 1, _P - 1, _Y8, _P - _Y8})


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One signature, in base64, and the id of its key."""

    key: str
    signature: str


class _Signatures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    signatures: tuple[Entry, ...]


def key_id(public_key: Ed25519PublicKey) -> str:
    """The name of a key: SHA-256, in hex, of its 32 raw bytes."""
    return hashlib.sha256(public_key.public_bytes_raw()).hexdigest()


def check_key(public_key: Ed25519PublicKey, where: str) -> None:
    """Refuse keys under which anybody can forge.

    Raises:
        SignatureError: a point of small order, or one that is not written in its one valid form.
    """
    y = int.from_bytes(public_key.public_bytes_raw(), "little") & (2**255 - 1)
    if y >= _P or y in _SMALL_ORDER_Y:
        raise SignatureError(
            f"{where}: this is a weak Ed25519 key (small-order or non-canonical point) that would "
            "accept forged signatures; make a new one with edged-convert keygen"
        )


def generate_key(path_prefix: Path | str) -> tuple[Path, Path]:
    """Make a key pair: ``PREFIX.key`` (private, mode 0600) and ``PREFIX.pub``.

    Returns:
        The two paths.

    Raises:
        SignatureError: one of the files exists already, or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

    private_path, public_path = Path(f"{path_prefix}.key"), Path(f"{path_prefix}.pub")
    for path in (private_path, public_path):
        if os.path.lexists(path):
            raise SignatureError(f"{path} exists already; keys are never overwritten")
    key = ed25519.Ed25519PrivateKey.generate()
    private_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public_pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write_new(private_path, private_pem, 0o600)
    _write_new(public_path, public_pem, 0o644)
    return private_path, public_path


class Signer:
    """Holds a private key and signs manifests with it.

    Args:
        key: the private key.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key()
        self.key_id = key_id(self.public_key)

    @classmethod
    def from_file(cls, path: Path | str) -> Signer:
        """Read a private key in PKCS8 PEM form.

        Raises:
            SignatureError: unreadable, open to other users, or not an Ed25519 private key.
        """
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - as above
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

        data = _read_key_file(Path(path), is_private=True)
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise SignatureError(f"{path}: not an unencrypted PKCS8 PEM private key") from exc
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise SignatureError(f"{path}: expected an Ed25519 private key, found another kind")
        return cls(key)

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


class RetiredKeyError(SignatureError):
    """Signed by keys that were trusted once, and are not any more."""


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

    keys: Mapping[str, Ed25519PublicKey]
    threshold: int = 1
    required: bool = True
    former: tuple[FormerRole, ...] = ()
    version: int = 0
    spared: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.threshold < 1:
            raise SignatureError(f"the threshold must be at least 1; got {self.threshold}")
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
        keys: dict[str, Ed25519PublicKey] = {}
        for path in paths:
            public_key = _read_public_key(Path(path))
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
            is_spared = hashlib.sha256(manifest_bytes).hexdigest() in self.spared
            if is_spared or self._was_enough(manifest_bytes, dict(entries)):
                raise RetiredKeyError(
                    f"signed by keys that were enough before version {self.version} of the trust "
                    "document, and are not any more; have it signed by a key of now: edged-convert "
                    "sign BUNDLE --key KEY"
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
            f"trusted here: {trusted}); sign it with a trusted key, or add the signer's .pub file "
            "to the trusted keys"
        )


def fits(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether a key made a signature over these bytes."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - as above

    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def key_from_text(text: str, where: str) -> Ed25519PublicKey:
    """A public key of its 32 bytes in base64; raises SignatureError for none, or a weak one."""
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - as above

    key = ed25519.Ed25519PublicKey.from_public_bytes(raw_bytes(text, _KEY_BYTES))
    check_key(key, where)
    return key


def parse_signatures(data: bytes) -> tuple[tuple[str, bytes], ...]:
    """Read ``signatures.json`` into (key id, signature) pairs.

    Raises:
        SignatureError: over a cap, not canonical, unsorted, or the same key twice.
    """
    if len(data) > SIGNATURES_CAP_BYTES:
        text = f"signatures.json has {len(data)} bytes; the limit is {SIGNATURES_CAP_BYTES}"
        raise SignatureError(text)
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


def raw_bytes(text: str, size: int) -> bytes:
    """What base64 stands for.

    Raises:
        SignatureError: it is none, or of another size.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise SignatureError("a key or signature is not valid base64") from exc
    if base64.b64encode(raw).decode("ascii") != text:
        # Bits behind the last byte: one key could be listed twice under two texts.
        raise SignatureError("a key or signature is not in the one form that base64 has for it")
    if len(raw) != size:
        raise SignatureError(f"a key or signature has {len(raw)} bytes; Ed25519 has {size}")
    return raw


def _encode(signatures: _Signatures) -> bytes:
    return msgspec.json.encode(signatures, order="sorted")


def _read_public_key(path: Path) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

    data = _read_key_file(path, is_private=False)
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise SignatureError(f"{path}: not a PEM public key (expected a .pub file)") from exc
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise SignatureError(f"{path}: expected an Ed25519 public key, found another kind")
    check_key(key, str(path))
    return key


def _read_key_file(path: Path, *, is_private: bool) -> bytes:
    try:
        # O_NONBLOCK: a pipe by that name would keep us waiting.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode):
                raise SignatureError(f"{path}: cannot read the key: not a file")
            if is_private and stat.S_IMODE(mode) & 0o077:
                raise SignatureError(
                    f"{path}: a private key must not be open to other users; run chmod 600 on it"
                )
            return file.read(_KEY_FILE_CAP_BYTES)
    except OSError as exc:
        raise SignatureError(f"{path}: cannot read the key: {exc.strerror}") from exc


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        fd = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode
        )
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise SignatureError(f"{path}: cannot write the key: {exc.strerror}") from exc
