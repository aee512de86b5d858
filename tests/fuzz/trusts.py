"""Trust documents."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from edged.errors import EdgedError
from edged.store.trust_document import (
    check_self,
    check_successor,
    parse_trust,
    trust_store,
    write_trust,
)
from tests.fuzz.target import sorted_json
from tests.trust import Ring


def run_trust(data: bytes) -> None:
    """What is accepted has one form, may not follow itself, and its keys can be asked."""
    for text in (data, sorted_json(data)):
        with contextlib.suppress(EdgedError):
            signed = parse_trust(text)
            assert write_trust(signed.document, signed.signatures) == text
            assert trust_store(signed).threshold <= len(signed.document.release.keys)
            with contextlib.suppress(EdgedError):
                check_self(signed)
            try:
                check_successor(signed, signed)
            except EdgedError:
                continue
            raise AssertionError("a document follows itself")


def seed_trust() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        ring = Ring(Path(folder))
        more = {"expires": "2027-01-01", "floors": {"m": 3}, "revoked": ("0" * 64,)}
        return [
            ring.signed(ring.document()),
            ring.signed(ring.document(2, "r1", "a b", **more), "r1"),
            ring.signed(ring.document(9), ""),
        ]
