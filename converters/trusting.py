"""``edged-convert trust``: trust documents, made of public keys, signed one key at a time.

Decides what a new document takes over from the one before. Nothing here has a private key: ``sign``
adds signatures, wherever each key is kept.
"""

from __future__ import annotations

import base64
from argparse import Namespace
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from converters.atomic import draft
from converters.errors import ConversionError
from edged.errors import SignatureError
from edged.store.keys import key_id
from edged.store.signing import Signer
from edged.store.trust_document import (
    CAP_BYTES,
    Role,
    SignedTrust,
    TrustDocument,
    parse_trust,
    public_keys,
    sign_trust,
    write_trust,
)
from edged.store.trust_store import TrustStore

if TYPE_CHECKING:
    from edged.store.keys import PublicKey


def make_trust(args: Namespace) -> list[str]:
    """Write a document that nobody has signed yet; returns lines for people.

    Raises:
        SignatureError: a key is none, or the document can never work.
        ConversionError: a file cannot be written, or a word is none.
    """
    old = None if args.old is None else _read(args.old).document
    root = _role(args.root, args.root_threshold, old.root if old else None, "--root")
    release = _role(args.release, args.release_threshold, old.release if old else None, "--release")
    revoked = {key_id(key) for key in _keys(args.revoke)}
    if old is not None:  # a device may have missed the version that said so, or lost it
        revoked |= set(old.revoked) - set(public_keys(release))
    today = f"{datetime.now(timezone.utc):%Y-%m-%d}"
    document = TrustDocument(
        version=args.number or (old.version + 1 if old else 1),
        issued=args.issued or today,
        root=root,
        release=release,
        expires=_end(args.expires, old),
        floors={**(old.floors if old else {}), **_floors(args.floor)},
        revoked=tuple(sorted(revoked)),
    )
    _write(args.output, write_trust(_checked(document)))
    needed = f"{root.threshold} of its {len(root.keys)} root keys"
    if old is not None and old.root != root:
        needed += f", and {old.root.threshold} of the {len(old.root.keys)} of version {old.version}"
    return [
        f"{args.output}: trust version {document.version}, signed by nobody yet",
        f"to be signed by {needed}: edged-convert sign {args.output} --key KEY",
    ]


def is_trust(path: Path) -> bool:
    """Whether a file is no bundle, by its first byte."""
    try:
        with path.open("rb") as file:
            return file.read(1) == b"{"
    except OSError:
        return False


def sign_trust_file(path: Path, key: Path) -> str:
    """Add a signature; returns the key's id.

    Raises:
        SignatureError: no trust document, or no private key.
    """
    signer = Signer.from_file(key)
    _write(path, sign_trust(_read(path).data, signer))
    return signer.key_id


def _read(path: Path) -> SignedTrust:
    try:
        with path.open("rb") as file:
            return parse_trust(file.read(CAP_BYTES + 1))
    except OSError as exc:
        raise ConversionError(f"{path} cannot be read: {exc.strerror}") from exc
    except SignatureError as exc:
        raise SignatureError(f"{path}: {exc.message}") from exc


def _write(path: Path, data: bytes) -> None:
    with draft(path) as made:
        made.file.write(data)


def _role(paths: list[Path], threshold: int | None, old: Role | None, flag: str) -> Role:
    if not paths and old is None:
        raise ConversionError(
            f"{flag}: name at least one public key, or the document before (--from)"
        )
    keys = (
        old.keys
        if not paths and old
        else tuple(base64.b64encode(key.public_bytes_raw()).decode() for key in _keys(paths))
    )
    return Role(keys, threshold or (old.threshold if old else 1))


def _keys(paths: Iterable[Path]) -> list[PublicKey]:
    return list(TrustStore.from_files(paths).keys.values())


def _end(said: str | None, old: TrustDocument | None) -> str | msgspec.UnsetType:
    if said is None:
        return old.expires if old else UNSET
    return UNSET if said == "never" else said


def _floors(words: list[str]) -> dict[str, int]:
    floors = {}
    for word in words:
        model, _, number = word.rpartition("@")
        if not model or not number.isascii() or not number.isdecimal():
            raise ConversionError(f'--floor "{word[:80]}": expected MODEL@N, such as digits@3')
        floors[model] = int(number)
    return floors


def _checked(document: TrustDocument) -> TrustDocument:
    """By the same words that a device reads it with."""
    try:
        return msgspec.convert(msgspec.to_builtins(document), TrustDocument)
    except msgspec.ValidationError as exc:
        raise ConversionError(f"no trust document: {exc}") from exc
