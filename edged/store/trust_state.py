"""The trust document that a device goes by, and who was trusted before it.

Decides what is kept and that it only rises. Kept twice, each copy replaced whole: the higher
version counts. Before there is one, the file that the configuration names counts (``trust.root``).

    <state>/trust.json    <state>/trust-2.json    {"check": CRC-32, "document": …, "former": […]}
"""

from __future__ import annotations

import base64
import hashlib
import logging
import zlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edged.errors import EdgedError
from edged.store.floors import Floors
from edged.store.signing import FormerRole, TrustStore
from edged.store.trust_document import (
    SignedTrust,
    TrustDocument,
    check_self,
    check_successor,
    former_role,
    parse_trust,
    trust_store,
)
from edged.store.twice import Twice

log = logging.getLogger("edged.store")

_FILE_CAP_BYTES = 1 << 20
_FORMER_CAP = 8
"""Rotations that a device looks back on: what serves from before that is years old."""


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    check: int
    document: str
    former: tuple[FormerRole, ...]


@dataclass(frozen=True, slots=True)
class Trusted:
    """A document that is in effect.

    Args:
        signed: the document.
        former: release roles from before, the latest last, without keys that were revoked.
    """

    signed: SignedTrust
    former: tuple[FormerRole, ...] = ()

    @property
    def document(self) -> TrustDocument:
        """What it says."""
        return self.signed.document

    def store(self, *, required: bool = True) -> TrustStore:
        """The keys to verify bundles with."""
        return trust_store(self.signed, self.former, required=required)


class TrustState:
    """What one state directory keeps, read anew at each call; of any process.

    Args:
        state_dir: is there when something is kept.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._files = Twice(state_dir, "trust", _FILE_CAP_BYTES)
        self.copies = tuple(state_dir / name for name in self._files.copies)

    def read(self) -> Trusted | None:
        """What is kept; None before there is any."""
        found = [_parse(name, data) for name, data in self._files.read()]
        whole = [one for one in found if one is not None]
        return max(whole, key=lambda one: one.document.version, default=None)

    def adopt(self, signed: SignedTrust) -> None:
        """Keep the first one, which the configuration names: from now on versions only rise.

        Raises:
            OSError: the disk does not take it.
        """
        if self.read() is not None:
            return
        with self._files.locked():
            if self.read() is None:
                self._write(Trusted(signed))

    def apply(self, new: SignedTrust, first: SignedTrust | None = None) -> bool:
        """Go by a document from now on; its floors are raised too.

        Args:
            new: the document.
            first: what counts where nothing is kept yet.

        Returns:
            Whether it is another one than before.

        Raises:
            TrustError: it may not follow what is in effect.
            OSError: the disk does not take it; the old one is in effect, or the new.
        """
        with self._files.locked():
            kept = self.read()
            now = Trusted(first) if kept is None and first is not None else kept
            if now is not None and now.document == new.document:
                check_self(new)
                if kept is None:
                    self._write(now)
                return False
            if now is None:
                check_self(new)
            else:
                check_successor(now.signed, new)
            # Before the document: a cut between the two is made up for by applying it again, and a
            # floor that rises early was signed by the same keys.
            if new.document.floors:
                Floors(self._state_dir).rise(new.document.floors)
            self._write(Trusted(new, _former(now, new.document)))
        return True

    def forget(self) -> bool:
        """Remove what is kept, so that the configured file counts again; whether there was any."""
        with self._files.locked():
            return self._files.remove()

    def _write(self, trusted: Trusted) -> None:
        document = trusted.signed.data.decode("ascii")
        former = trusted.former
        self._files.write(msgspec.json.encode(_Kept(_check(document, former), document, former)))


def _parse(name: str, data: bytes) -> Trusted | None:
    try:
        kept = msgspec.json.decode(data, type=_Kept)
        if kept.check != _check(kept.document, kept.former):
            log.error("%s is damaged; the other copy counts", name)
            return None
        signed = parse_trust(kept.document.encode("utf-8", "surrogatepass"))
        check_self(signed)
    except (ValueError, RecursionError, msgspec.MsgspecError, EdgedError) as exc:
        log.error("%s cannot be read; the other copy counts: %s", name, exc)
        return None
    return Trusted(signed, kept.former)


def _former(now: Trusted | None, new: TrustDocument) -> tuple[FormerRole, ...]:
    """Who was trusted until now, without what the new document revokes."""
    roles = () if now is None else (*now.former, former_role(now.document))
    left = []
    for role in roles:
        keys = tuple(key for key in role.keys if _id(key) not in new.revoked)
        if len(keys) >= role.threshold and role != former_role(new):
            left.append(FormerRole(keys, role.threshold))
    return tuple(dict.fromkeys(left))[-_FORMER_CAP:]


def _id(key: str) -> str:
    return hashlib.sha256(base64.b64decode(key)).hexdigest()


def _check(document: str, former: tuple[FormerRole, ...]) -> int:
    return zlib.crc32(msgspec.json.encode([document, former]))
