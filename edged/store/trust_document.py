"""A trust document: who may sign bundles, and who may change that; signed by its own root keys.

Decides whether a document is whole and signed, and whether it may follow another one. Reads and
writes no file. Source: the rules of TUF's root role (a new one is signed by enough of the old root
and enough of the new, one vote a key, versions never fall). Its dates are days, in UTC.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from edged import decoding
from edged.errors import SignatureError
from edged.manifest import Release, Sha256
from edged.specs import MODEL_NAME
from edged.store.keys import fits, key_from_text, key_id, raw_bytes
from edged.store.signing import Entry, Signer
from edged.store.trust_store import FormerRole, TrustStore

if TYPE_CHECKING:
    from edged.store.keys import PublicKey

FORMAT = "edged-trust-v1"
DOMAIN = b"edged-trust-v1\0"
CAP_BYTES = 256 << 10
"""Two roles of 16 keys are 4 KiB; the rest is for floors."""
_KEYS_CAP = 16

Day = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")]
Key = Annotated[str, Meta(pattern=r"^[A-Za-z0-9+/]{43}=\Z")]


class TrustError(SignatureError):
    """A trust document that is not to be believed, or that there is none."""


class Role(Struct, frozen=True, forbid_unknown_fields=True):
    """Keys, and how many of them must have signed."""

    keys: Annotated[tuple[Key, ...], Meta(min_length=1, max_length=_KEYS_CAP)]
    threshold: Annotated[int, Meta(ge=1, le=_KEYS_CAP)] = 1


class TrustDocument(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is signed. ``docs/bundles.md`` has the meaning of each field."""

    format: Literal["edged-trust-v1"] = "edged-trust-v1"
    version: Release
    issued: Day
    root: Role
    release: Role
    expires: Day | UnsetType = UNSET
    floors: Annotated[
        dict[Annotated[str, Meta(pattern=MODEL_NAME)], Release], Meta(max_length=4096)
    ] = msgspec.field(default_factory=dict)
    revoked: Annotated[tuple[Sha256, ...], Meta(max_length=256)] = ()

    @property
    def last_day(self) -> date | None:
        """The last day on which new bundles are taken by it; None for no end."""
        return date.fromisoformat(self.expires) if isinstance(self.expires, str) else None


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    signatures: Annotated[tuple[Entry, ...], Meta(max_length=2 * _KEYS_CAP)]
    trust: TrustDocument


@dataclass(frozen=True, slots=True)
class SignedTrust:
    """A document and who signed it; signed by enough of its own root once ``check_self`` passed.

    Args:
        data: the whole file.
        document: what it says.
        signatures: by key id.
    """

    data: bytes
    document: TrustDocument
    signatures: Mapping[str, bytes]


def parse_trust(data: bytes) -> SignedTrust:
    """Read a trust document; who signed it is another question.

    Raises:
        TrustError: over a cap, not canonical, malformed, or contradicting itself.
    """
    if len(data) > CAP_BYTES:
        raise TrustError(f"has {len(data)} bytes; a trust document has at most {CAP_BYTES}")
    try:
        file = decoding.decode(data, _File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise TrustError(f"no trust document: {exc}") from exc
    names = [entry.key for entry in file.signatures]
    if names != sorted(set(names)) or _canonical(file) != data:
        raise TrustError(
            "not in canonical form (sorted keys, no spaces, each signer once); write it with "
            "edged-convert trust"
        )
    _check(file.trust)
    signatures = {entry.key: raw_bytes(entry.signature, 64) for entry in file.signatures}
    return SignedTrust(data, file.trust, signatures)


def write_trust(document: TrustDocument, signatures: Mapping[str, bytes] | None = None) -> bytes:
    """The one byte form of a document with these signatures.

    Raises:
        TrustError: it contradicts itself.
    """
    _check(document)
    entries = tuple(
        Entry(key, base64.b64encode(raw).decode("ascii"))
        for key, raw in sorted((signatures or {}).items())
    )
    return _canonical(_File(entries, document))


def sign_trust(data: bytes, signer: Signer) -> bytes:
    """The same document with one signature more.

    Raises:
        TrustError: it is malformed.
    """
    signed = parse_trust(data)
    own = {signer.key_id: signer.sign(_body(signed.document), DOMAIN)}
    return write_trust(signed.document, {**signed.signatures, **own})


def check_self(signed: SignedTrust) -> None:
    """Refuse a document that not enough of its own root signed; raises TrustError."""
    _ask(signed, signed.document.root, "its own root keys")


def check_successor(old: SignedTrust, new: SignedTrust) -> None:
    """Refuse what may not follow: the old root has to agree, and the new one to have its keys.

    Raises:
        TrustError: not newer, dated before, or not signed by enough of both roots.
    """
    before, after = old.document, new.document
    if after.version <= before.version:
        raise TrustError(
            f"it is version {after.version}, and this device goes by version {before.version} "
            "already; versions only rise"
        )
    if after.issued < before.issued:
        raise TrustError(
            f"version {after.version} says it was issued on {after.issued}, before version "
            f"{before.version} ({before.issued}); make it anew with today's date"
        )
    _ask(new, before.root, f"the root keys of version {before.version}, which is in effect")
    check_self(new)


def trust_store(
    signed: SignedTrust,
    former: Iterable[FormerRole] = (),
    spared: Iterable[str] = (),
    *,
    required: bool = True,
) -> TrustStore:
    """The keys to verify bundles with."""
    role, version = signed.document.release, signed.document.version
    keys, threshold = public_keys(role), role.threshold
    return TrustStore(keys, threshold, required, tuple(former), version, frozenset(spared))


def former_role(document: TrustDocument) -> FormerRole:
    """Its release keys, when another one takes its place."""
    return FormerRole(document.release.keys, document.release.threshold)


def public_keys(role: Role) -> dict[str, PublicKey]:
    """A role's keys by their ids; raises TrustError for a weak one."""
    found = [key_from_text(text, f"key {text[:16]} of the trust document") for text in role.keys]
    return {key_id(key): key for key in found}


def _ask(signed: SignedTrust, role: Role, whose: str) -> None:
    """Count votes, one a key; a false one by a key of the role is an error of its own."""
    votes, message = 0, DOMAIN + _body(signed.document)
    for name, key in public_keys(role).items():
        if name not in signed.signatures:
            continue
        if not fits(key, signed.signatures[name], message):
            raise TrustError(
                f"the signature by {name[:16]} does not fit: it was changed after it was signed"
            )
        votes += 1
    if votes < role.threshold:
        raise TrustError(
            f"version {signed.document.version} is signed by {votes} of {role.threshold} required "
            f"of {whose}"
        )


def _check(document: TrustDocument) -> None:
    """Refuse what is well formed but can never work."""
    for name, role in (("root", document.root), ("release", document.release)):
        if len(set(role.keys)) != len(role.keys):
            raise TrustError(f"{name}: a key is listed twice; each has one vote")
        if role.threshold > len(role.keys):
            raise TrustError(
                f"{name}: {role.threshold} signatures are required of {len(role.keys)} keys: "
                "nothing could ever be accepted"
            )
    for name, day in (("issued", document.issued), ("expires", document.expires)):
        try:
            date.fromisoformat(day if isinstance(day, str) else "2000-01-01")
        except ValueError as exc:
            raise TrustError(f"{name}: {day} is no day; expected such as 2027-01-31") from exc
    if document.revoked != tuple(sorted(set(document.revoked))):
        raise TrustError("revoked: expected sorted key ids, each once")
    if taken := set(document.revoked) & set(public_keys(document.release)):
        raise TrustError(f"revoked: {min(taken)[:16]} is a release key of the same document")


def _body(document: TrustDocument) -> bytes:
    return _dump(msgspec.to_builtins(document))


def _canonical(file: _File) -> bytes:
    return _dump(msgspec.to_builtins(file))


def _dump(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
