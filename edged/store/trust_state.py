"""The trust document that a device goes by, and who was trusted before it.

Decides what is kept and that it only rises. Kept twice, each copy replaced whole: the higher
version counts. Before there is one, the file that the configuration names counts (``trust.root``).

    <state>/trust.json    <state>/trust-2.json    {"check": CRC-32, "document": …, "former": […]}

Where both are lost, so is who was trusted between the configured document and the one that takes
their place: what serves by such keys is kept in mind instead (``"spared": [DIGEST]``), as what was
signed by keys that retired.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from edged import decoding
from edged.errors import EdgedError, SignatureError
from edged.store.floors import Floors
from edged.store.serving import serving_releases
from edged.store.signing import DOMAIN, parse_signatures
from edged.store.stored import StoredRelease
from edged.store.trust_document import (
    SignedTrust,
    TrustDocument,
    TrustError,
    check_self,
    check_successor,
    former_role,
    parse_trust,
    trust_store,
)
from edged.store.trust_store import FormerRole, RetiredKeyError, TrustStore
from edged.store.twice import Twice

log = logging.getLogger("edged.store")

_FILE_CAP_BYTES = 1 << 20
_FORMER_CAP = 8
"""Rotations that a device looks back on: what serves from before that is years old."""


class TrustLostError(TrustError):
    """Whom this device trusts is not known here any more.

    Args:
        message: see ``EdgedError``.
        revoked: keys that were revoked, as far as that is known.
    """

    def __init__(self, message: str, revoked: frozenset[str] = frozenset()) -> None:
        super().__init__(message)
        self.revoked = revoked


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    check: int
    document: str
    former: tuple[FormerRole, ...]
    spared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trusted:
    """A document that is in effect.

    Args:
        signed: the document.
        former: release roles from before, the latest last, without keys that were revoked.
        spared: digests of what serves on by keys that were forgotten.
    """

    signed: SignedTrust
    former: tuple[FormerRole, ...] = ()
    spared: tuple[str, ...] = ()

    @property
    def document(self) -> TrustDocument:
        """What it says."""
        return self.signed.document

    def store(self, *, required: bool = True) -> TrustStore:
        """The keys to verify bundles with."""
        return trust_store(self.signed, self.former, self.spared, required=required)


@dataclass(frozen=True, slots=True)
class LostTrust(TrustStore):
    """Verifies nothing: what serves goes on as if its keys were retired, and all else is refused.

    Args:
        lost: why.
        revoked: keys that were revoked; what only these signed is refused, too.
    """

    lost: str = ""
    revoked: frozenset[str] = frozenset()

    def verify(
        self, manifest_bytes: bytes, signatures_json: bytes | None, domain: bytes = DOMAIN
    ) -> tuple[str, ...]:
        """See ``TrustStore``."""
        if self.required:
            entries = () if signatures_json is None else parse_signatures(signatures_json)
            if entries and self.revoked.issuperset(name for name, _ in entries):
                raise SignatureError(f"signed only by keys that were revoked; {self.lost}")
            digest = hashlib.sha256(manifest_bytes).hexdigest()
            raise RetiredKeyError(f"checked against no key: {self.lost}", digest)
        return TrustStore.verify(self, manifest_bytes, signatures_json, domain)


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
        """What is kept; None before there is any.

        Raises:
            TrustLostError: there is, and all copies are damaged or gone.
        """
        found = {name: _parse(data) for name, data in self._files.read()}
        whole = [one for one in found.values() if isinstance(one, Trusted)]
        if not whole and (found or self._files.was_written()):
            raise TrustLostError(
                f"{' and '.join(self._files.copies)} in {self._state_dir} are "
                f"{'damaged' if found else 'gone'}, so which "
                "trust document this device went by is not known: what serves goes on, and nothing "
                "new is taken; give it the newest one again: edged trust apply --anew FILE",
                _key_ids(self._files.noted()),
            )
        for name, flaw in found.items():
            if not isinstance(flaw, Trusted):
                log.error("%s is damaged; the other copy counts: %s", name, flaw)
        return max(whole, key=lambda one: one.document.version, default=None)

    def adopt(self, signed: SignedTrust) -> None:
        """Keep the first one, which the configuration names: from now on versions only rise.

        Raises:
            OSError: the disk does not take it.
        """
        kept = self.read()
        if kept is not None:
            self._files.note(_words(kept.document))
            return
        with self._files.locked():
            if self.read() is None:
                self._write(Trusted(signed))

    def apply(
        self, new: SignedTrust, first: SignedTrust | None = None, *, anew: bool = False
    ) -> bool:
        """Go by a document from now on; its floors are raised too.

        Args:
            new: the document.
            first: what counts where nothing is kept yet.
            anew: an operator's word: what is kept may be damaged, then ``first`` counts too.

        Returns:
            Whether it is another one than before.

        Raises:
            TrustError: it may not follow what is in effect.
            OSError: the disk does not take it; the old one is in effect, or the new.
        """
        with self._files.locked():
            kept, is_lost = self._read_or_lost(anew=anew)
            now = Trusted(first) if kept is None and first is not None else kept
            if now is not None and now.document == new.document:
                check_self(new)
                if kept is None:
                    self._write(self._sparing(now, is_lost=is_lost))
                return False
            if now is None:
                check_self(new)
            else:
                check_successor(now.signed, new)
            # Before the document: a cut between the two is made up for by applying it again, and a
            # floor that rises early was signed by the same keys.
            if new.document.floors:
                Floors(self._state_dir).rise(new.document.floors)
            spared = () if now is None else now.spared
            after = Trusted(new, _former(now, new.document), spared)
            self._write(self._sparing(after, is_lost=is_lost))
        return True

    def _read_or_lost(self, *, anew: bool) -> tuple[Trusted | None, bool]:
        try:
            return self.read(), False
        except TrustLostError:
            if not anew:
                raise
            return None, True

    def _sparing(self, after: Trusted, *, is_lost: bool) -> Trusted:
        """With what serves of those that were spared; of all, where who was trusted is lost."""
        if not is_lost and not after.spared:
            return after
        known, revoked = trust_store(after.signed, after.former), after.document.revoked
        spared = [
            stored.digest
            for stored in serving_releases(self._state_dir)
            if (is_lost or stored.digest in after.spared) and _is_forgotten(stored, known, revoked)
        ]
        return replace(after, spared=tuple(sorted(spared)))

    def forget(self) -> bool:
        """Remove what is kept, so that the configured file counts again; whether there was any."""
        with self._files.locked():
            return self._files.remove()

    def _write(self, trusted: Trusted) -> None:
        document = trusted.signed.data.decode("ascii")
        former, spared = trusted.former, trusted.spared
        check = _check(document, former, spared)
        data = msgspec.json.encode(_Kept(check, document, former, spared))
        self._files.write(data, _words(trusted.document))


def _words(document: TrustDocument) -> bytes:
    """What is noted apart: the keys it revokes, or they would count again once it is lost."""
    return "\n".join(document.revoked).encode("ascii")


def _key_ids(words: bytes) -> frozenset[str]:
    """The keys that were noted, which only refuse: whatever else stands there is none."""
    return frozenset(words.decode("ascii", "replace").split())


def _parse(data: bytes | None) -> Trusted | str:
    """What a copy says, or what is wrong with it."""
    if data is None:
        return "it cannot be read"
    try:
        kept = decoding.decode(data, _Kept)
        if kept.check != _check(kept.document, kept.former, kept.spared):
            return "its check does not fit"
        signed = parse_trust(kept.document.encode("utf-8", "surrogatepass"))
        check_self(signed)
    except (ValueError, RecursionError, msgspec.MsgspecError, EdgedError) as exc:
        return str(exc)
    return Trusted(signed, kept.former, kept.spared)


def _former(now: Trusted | None, new: TrustDocument) -> tuple[FormerRole, ...]:
    """Who was trusted until now, without what the new document revokes."""
    roles = () if now is None else (*now.former, former_role(now.document))
    left = []
    for role in roles:
        keys = tuple(key for key in role.keys if _id(key) not in new.revoked)
        if len(keys) >= role.threshold and role != former_role(new):
            left.append(FormerRole(keys, role.threshold))
    return tuple(dict.fromkeys(left))[-_FORMER_CAP:]


def _is_forgotten(stored: StoredRelease, known: TrustStore, revoked: Iterable[str]) -> bool:
    """Whether somebody signed a release, nobody knows who, and none of them is revoked."""
    try:
        stored.verify(known)
    except RetiredKeyError:
        return False
    except SignatureError:
        with contextlib.suppress(EdgedError):
            signers = stored.signers()
            return bool(signers) and not signers.intersection(revoked)
    except EdgedError:
        pass
    return False


def _id(key: str) -> str:
    return hashlib.sha256(base64.b64decode(key)).hexdigest()


def _check(document: str, former: tuple[FormerRole, ...], spared: tuple[str, ...]) -> int:
    return zlib.crc32(msgspec.json.encode([document, former, *([spared] if spared else [])]))
