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
    """

    digest: str
    manifest_bytes: bytes
    manifest: Manifest
    signatures: bytes | None


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
                look = _look(bundle)
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


def _look(bundle: Bundle) -> Look:
    data = bundle.manifest_bytes
    return Look(bundle_digest(data), data, bundle.manifest, bundle.signatures)


SEEN = Seen()
"""Those of this process: a configuration's digest and its bundles are asked for apart."""
