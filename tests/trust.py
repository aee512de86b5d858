"""Keys and trust documents for tests, as edged-convert makes them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from edged.store.signing import Signer
from edged.store.trust_document import Role, TrustDocument, sign_trust, write_trust
from tests.bundles import make_keys


class Ring:
    """Key pairs by name, made when they are first asked for: ``NAME.key`` and ``NAME.pub``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __getitem__(self, name: str) -> Signer:
        if not (self.directory / f"{name}.key").exists():
            make_keys(self.directory, name)
        return Signer.from_file(self.directory / f"{name}.key")

    def role(self, names: str, threshold: int = 1) -> Role:
        """A role of these keys, parted by spaces."""
        raw = [self[name].public_key.public_bytes_raw() for name in names.split()]
        return Role(tuple(base64.b64encode(one).decode() for one in raw), threshold)

    def document(
        self, version: int = 1, root: str = "r1 r2 r3", release: str = "a", **more: Any
    ) -> TrustDocument:
        """By default two of three root keys, and one release key."""
        more = {"issued": "2026-11-01", **more}
        threshold = more.pop("threshold", min(2, len(root.split())))
        return TrustDocument(
            version=version, root=self.role(root, threshold), release=self.role(release), **more
        )

    def signed(self, document: TrustDocument, by: str = "r1 r2") -> bytes:
        """The file of a document, signed by these."""
        data = write_trust(document)
        for name in by.split():
            data = sign_trust(data, self[name])
        return data
