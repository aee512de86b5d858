"""Bundle files that were read before: what they said of themselves, while they are those files.

Decides nothing about what a bundle may be (``bundle.py``). Members are not read here, and nothing
of them is kept: what is loaded is verified in the store, each time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edged.manifest import Manifest
from edged.store.bundle import Bundle, bundle_digest, open_bundle
from edged.store.unchanged import Unchanged, stamp_of


@dataclass(frozen=True, slots=True)
class Look:
    """What a bundle says of itself.

    Args:
        digest: of the bundle.
        manifest_bytes: as stored; what is signed.
        manifest: the same, parsed.
        signatures: the bytes of signatures.json, or None.
        size: of the file.
    """

    digest: str
    manifest_bytes: bytes
    manifest: Manifest
    signatures: bytes | None
    size: int


class Seen:
    """What was read of bundle files. Thread-safe.

    Args:
        kept: where it is kept.
    """

    def __init__(self, kept: Unchanged[Look] | None = None) -> None:
        self._kept: Unchanged[Look] = Unchanged() if kept is None else kept

    def known(self, path: Path) -> Look | None:
        """What a file said when it was read; None when it must be read, or is not there."""
        name = os.fspath(path)
        try:
            stamp = stamp_of(os.stat(name))  # noqa: PTH116 - a reload asks for hundreds
        except (OSError, ValueError):
            return None
        return self._kept.get(name, (stamp,))

    @contextmanager
    def opened(self, path: Path) -> Iterator[Bundle]:
        """Open a bundle, and keep what it says of itself.

        Raises:
            BundleError: see ``open_bundle``.
        """
        name = os.fspath(path)
        try:
            before = stamp_of(os.stat(name))  # noqa: PTH116
        except (OSError, ValueError):
            before = None
        with open_bundle(path) as bundle:
            if before is not None and before == stamp_of(os.fstat(bundle.fd)):
                look = look_of(bundle)
                size_bytes = len(look.manifest_bytes) + len(look.signatures or b"")
                self._kept.keep(name, (before,), look, size_bytes)
            yield bundle

    def digest(self, path: Path) -> str:
        """A bundle's digest, read only if the file changed; raises BundleError."""
        look = self.known(path)
        if look is not None:
            return look.digest
        with self.opened(path) as bundle:
            return bundle.digest


class Glance:
    """One look at each file, for as long as a configuration is checked; it asks several times.

    A file that is exchanged meanwhile counts as it was at that look: as if it came a moment later,
    when the next look at what the configuration names finds it.

    Args:
        seen: what was read of files.
    """

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self.looks: dict[Path, Look | None] = {}

    def known(self, path: Path) -> Look | None:
        """See ``Seen.known``."""
        if path not in self.looks:
            self.looks[path] = self._seen.known(path)
        return self.looks[path]

    def read(self, path: Path) -> None:
        """A file has been read since it was looked at: what it said is known from now on."""
        if self.looks.get(path) is None:
            self.looks[path] = self._seen.known(path)

    def forget(self, path: Path) -> None:
        """What a file says is to be judged anew the next time."""
        self.looks[path] = None

    def is_known(self, path: Path) -> bool:
        """Whether a file was read before, and is that file still."""
        return self.known(path) is not None


def look_of(bundle: Bundle) -> Look:
    """What an open bundle says of itself."""
    data, size = bundle.manifest_bytes, os.fstat(bundle.fd).st_size
    return Look(bundle_digest(data), data, bundle.manifest, bundle.signatures, size)


SEEN = Seen()
"""Those of this process: a configuration's digest and its bundles are asked for apart."""
