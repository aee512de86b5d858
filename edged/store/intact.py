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
    paths: tuple[str, ...]


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
        kept = self._known.kept(look.digest)
        if kept is None or look.signatures not in (None, kept[1].signatures):
            return None
        stamps, known = kept
        try:
            # A file that is there since, signatures say, makes the folder's stamp another.
            for path, stamp in zip(known.paths, stamps, strict=True):
                if stamp_of(os.lstat(path)) != stamp:
                    return None
        except OSError:
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
            paths = self._paths(look.digest, look.manifest)[: len(stamps)]
            known = _Known(stored, look.signatures, paths)
            self._known.keep(look.digest, stamps, known, size_bytes)

    def stamps(self, digest: str, manifest: Manifest) -> Stamps:
        """Of the files of a release, its folder first; empty when some are not there."""
        *paths, signatures = self._paths(digest, manifest)
        try:
            found = [stamp_of(os.lstat(path)) for path in paths]
        except OSError:
            return ()
        with contextlib.suppress(OSError):  # it need not have any
            found.append(stamp_of(os.lstat(signatures)))
        return tuple(found)

    def _paths(self, digest: str, manifest: Manifest) -> tuple[str, ...]:
        """Of a release's folder and its files, the signatures last.

        By path each is a single system call: a link in the place of the folder or of a file has a
        stamp of its own.
        """
        folder = f"{self._store}/{digest}"
        names = (MANIFEST_NAME, *(member.name for member in manifest.members), SIGNATURES_NAME)
        return (folder, *(f"{folder}/{name}" for name in names))
