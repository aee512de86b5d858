"""Releases of the store that were found whole, for as long as their files are as they were then.

Decides which files of a release that takes in: its folder, its manifest, every member and the
signatures. Hashes nothing: whoever loads a member hashes it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from edged.manifest import Manifest
from edged.store.bundle import MANIFEST_NAME, SIGNATURES_NAME
from edged.store.seen import Look
from edged.store.stored import StoredRelease
from edged.store.unchanged import Stamps, Unchanged, stamp_of


class _Known(NamedTuple):
    stored: StoredRelease
    signatures: bytes | None


class Intact:
    """What was found whole in one store. Thread-safe.

    Args:
        store: its folder.
    """

    def __init__(self, store: Path) -> None:
        self._store = os.fspath(store)
        self._known: Unchanged[_Known] = Unchanged()

    def find(self, look: Look) -> StoredRelease | None:
        """The release of a bundle with the same signatures; None when it must be looked at."""
        stamps = self.stamps(look.digest, look.manifest)
        known = self._known.get(look.digest, stamps) if stamps else None
        if known is None or look.signatures not in (None, known.signatures):
            return None
        return known.stored

    def note(self, look: Look, before: Stamps) -> None:
        """A bundle was compared with the store.

        Args:
            look: at the bundle; what it is signed with is in the store too.
            before: the stamps from before that.
        """
        stamps = self.stamps(look.digest, look.manifest)
        if stamps and stamps == before:
            stored = StoredRelease(look.digest, look.manifest, Path(self._store) / look.digest)
            size_bytes = len(look.signatures or b"")  # the manifest is the one of ``seen.py``
            self._known.keep(look.digest, stamps, _Known(stored, look.signatures), size_bytes)

    def stamps(self, digest: str, manifest: Manifest) -> Stamps:
        """Of the files of a release, its folder first; empty when some are not there."""
        # By their paths, each a single system call: a link in the place of the folder or of a
        # file has a stamp of its own.
        folder = f"{self._store}/{digest}"
        names = ["", MANIFEST_NAME, *(member.name for member in manifest.members)]
        try:
            found = [stamp_of(os.lstat(f"{folder}/{name}" if name else folder)) for name in names]
        except OSError:
            return ()
        # Once there are signatures, the folder's stamp is another.
        with contextlib.suppress(OSError):
            found.append(stamp_of(os.lstat(f"{folder}/{SIGNATURES_NAME}")))
        return tuple(found)
