"""A bundle that was verified, as a copy that nobody else writes to: what was checked goes out."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from converters.verify import verify_bundle
from edged.errors import BundleError
from edged.manifest import Manifest
from edged.store.bundle import bundle_digest, read_manifest


@dataclass(frozen=True)
class CheckedBundle:
    """A verified bundle.

    Args:
        path: the copy, gone when the context ends.
        manifest: what it says of itself.
        digest: its identity, as devices report it.
        sha256: of the file's bytes, which another signature changes.
        said: what was checked, a line each.
    """

    path: Path
    manifest: Manifest
    digest: str
    sha256: str
    said: tuple[str, ...]

    @property
    def file_name(self) -> str:
        """``NAME-RELEASE.edgb``, whatever the file was called."""
        return f"{self.manifest.name}-{self.manifest.release}.edgb"


@contextmanager
def checked(bundle: Path, keys: Sequence[Path], threshold: int) -> Iterator[CheckedBundle]:
    """Copy a bundle into a private folder and verify the copy.

    Args:
        bundle: the file.
        keys: trusted public keys; without any, signatures are not asked for.
        threshold: how many different ones of them must have signed.

    Raises:
        BundleError: it cannot be read, or is not what its manifest says (SignatureError: too few
            trusted signatures).
    """
    if not bundle.is_file():
        raise BundleError(f"{bundle}: no such file, or no regular one")
    with tempfile.TemporaryDirectory(prefix="edged-publish-") as folder:
        copy = Path(folder, "bundle.edgb")
        try:
            shutil.copyfile(bundle, copy)
        except OSError as exc:
            raise BundleError(f"{bundle}: cannot be copied: {exc.strerror or exc}") from exc
        said = verify_bundle(copy, keys, run=False, threshold=threshold)
        data, manifest, _ = read_manifest(copy)
        yield CheckedBundle(copy, manifest, bundle_digest(data), _sha256(copy), tuple(said))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
