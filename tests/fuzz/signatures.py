"""Signatures of bundles."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from edged.errors import EdgedError
from edged.store.keys import generate_key
from edged.store.signing import Signer, parse_signatures, sign_manifest
from tests.fuzz.target import sorted_json


def run_signatures(data: bytes) -> None:
    """Pairs of a name and 64 bytes, or refused."""
    for text in (data, sorted_json(data)):
        with contextlib.suppress(EdgedError):
            assert all(len(signature) == 64 for _, signature in parse_signatures(text))


def seed_signatures() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        signers = [Signer.from_file(generate_key(Path(folder) / name)[0]) for name in "abc"]
    return [sign_manifest(b"{}", signers[:count]) for count in range(4)]
