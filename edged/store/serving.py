"""Which releases serve on a device, by its disk: what the slots of its models point to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from edged.errors import EdgedError
from edged.store.slots import DIRECTORY_FLAGS, Slots
from edged.store.stored import StoredRelease, open_release


def serving_digests(state_dir: Path) -> dict[str, str]:
    """By model, the digest of its release.

    Raises:
        OSError: the disk does not say.
    """
    try:
        fd = os.open(state_dir / "slots", DIRECTORY_FLAGS)
    except FileNotFoundError:
        return {}
    try:
        slots = Slots(fd)
        found = {model: slots.read(model)[0] for model in slots.models()}
    finally:
        os.close(fd)
    return {model: digest for model, digest in found.items() if digest is not None}


def serving_releases(state_dir: Path) -> Iterator[StoredRelease]:
    """Those of them that are in the store; raises OSError as ``serving_digests``."""
    for model, digest in serving_digests(state_dir).items():
        with contextlib.suppress(EdgedError):
            stored = open_release(state_dir / "store", digest)
            if stored.manifest.name == model:
                yield stored
