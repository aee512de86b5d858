"""The message that brings a configuration: a document, what it is for, and who signed it.

Decides what is a whole message and what exactly is signed; whether it fits this device now is
``desired.py``'s to say. Every field that comes from outside has a cap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from edged import decoding
from edged.config.documents import LAST_VERSION
from edged.errors import InvalidRequestError, SignatureError
from edged.store.signing import DOCUMENT_DOMAIN, SIGNATURES_CAP, Signer, sign_manifest
from edged.store.trust_store import TrustStore

ANY_NODE = "*"


class Signature(Struct, frozen=True, forbid_unknown_fields=True):
    """One signer's: the key's id in hex, and base64."""

    key: Annotated[str, Meta(max_length=128)]
    signature: Annotated[str, Meta(max_length=128)]


class Envelope(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A message on ``<base>/config/desired``.

    Args:
        version: rises with every message, from 1.
        node: the device it is for; ``*`` for any.
        against: the generation in effect when it was made, or the first 12 to 64 digits of its
            configuration's digest.
        document: YAML as in a file of ``conf.d``; empty to have none.
        signatures: over ``statement``.
    """

    version: Annotated[int, Meta(ge=1, le=LAST_VERSION)]
    node: Annotated[str, Meta(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9_-]{0,63})\Z")]
    against: (
        Annotated[int, Meta(ge=0, lt=10**8)] | Annotated[str, Meta(pattern=r"^[0-9a-f]{12,64}\Z")]
    )
    document: str
    signatures: Annotated[tuple[Signature, ...], Meta(max_length=SIGNATURES_CAP)] = ()

    @property
    def statement(self) -> bytes:
        """What is signed: three lines, and the document's bytes after them."""
        head = f"{self.version}\n{self.node}\n{self.against}\n"
        return (head + self.document).encode("utf-8", "surrogatepass")

    def is_against(self, generation: int, digest: str) -> bool:
        """Whether it was made against this configuration."""
        if isinstance(self.against, int):
            return self.against == generation
        return digest.startswith(self.against)


class Opened(NamedTuple):
    """A message that may be decided upon: it is whole, and signed as it must be."""

    envelope: Envelope
    sha256: str


def payload_digest(payload: bytes) -> str:
    """By what a message is known again."""
    return hashlib.sha256(payload).hexdigest()


def open_envelope(payload: bytes, trust: TrustStore, node: str, most_bytes: int) -> Opened:
    """Read a message.

    Args:
        payload: as it came.
        trust: whose documents are taken.
        node: this device.
        most_bytes: that a message may have.

    Raises:
        InvalidRequestError: too long, no such message, or for another device.
        SignatureError: not signed as it must be.
    """
    if len(payload) > most_bytes:
        raise InvalidRequestError(
            f"the message has {len(payload)} bytes; mqtt.desired.max_size allows {most_bytes}"
        )
    try:
        envelope = decoding.decode(payload, Envelope)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequestError(
            f"the message is not one that `edged desired sign` makes: {exc}"
        ) from None
    trust.verify(envelope.statement, _as_json(envelope.signatures), DOCUMENT_DOMAIN)
    if envelope.node not in (ANY_NODE, node):
        raise InvalidRequestError(f'the message is for node "{envelope.node}"; this is "{node}"')
    return Opened(envelope, payload_digest(payload))


def seal(envelope: Envelope, signers: Iterable[Signer]) -> bytes:
    """The message, signed.

    Raises:
        InvalidRequestError: a field is not as it must be.
    """
    found = sign_manifest(envelope.statement, signers, DOCUMENT_DOMAIN)
    signatures = msgspec.json.decode(found)["signatures"]
    whole = {**msgspec.to_builtins(envelope), "signatures": signatures}
    try:
        decoding.convert(whole, Envelope)
    except msgspec.ValidationError as exc:
        raise InvalidRequestError(str(exc)) from None
    return msgspec.json.encode(whole)


def load_signers(paths: Iterable[Path], threshold: int, *, is_required: bool) -> TrustStore:
    """The operator's list of who may send documents; where there are keys, one must have signed.

    Raises:
        SignatureError: a file is missing or no Ed25519 public key.
    """
    files = list(paths)
    return TrustStore.from_files(files, threshold, is_required or bool(files))


def _as_json(signatures: tuple[Signature, ...]) -> bytes:
    found = sorted(signatures, key=lambda one: one.key)
    if len({one.key for one in found}) < len(found):
        raise SignatureError("the message has two signatures by one key")
    return msgspec.json.encode({"signatures": found}, order="sorted")
