"""The first bytes of a bundle that is still being fetched: its manifest and its signatures.

Both stand before every member, so who signed it is known before the rest is taken. Decides only
whether enough is there; the frame as a whole is checked when all of it is (``bundle.open_bundle``).
"""

from __future__ import annotations

import os
from typing import NamedTuple

from edged.errors import BundleError
from edged.manifest import MANIFEST_CAP_BYTES, Manifest, parse_manifest
from edged.store import archive
from edged.store.bundle import MANIFEST_NAME, SIGNATURES_NAME
from edged.store.signing import SIGNATURES_CAP_BYTES

_HEADER_BYTES = 30 + archive.NAME_CAP_BYTES


class Head(NamedTuple):
    """What a bundle says of itself; see ``read_manifest``."""

    data: bytes
    manifest: Manifest
    signatures: bytes | None


def read_head(fd: int, there: int, whole: int) -> Head | None:
    """Manifest and signatures; None while more has to come.

    Args:
        fd: the file.
        there: how many of its bytes are right.
        whole: how many it will have.

    Raises:
        BundleError: it begins as no bundle does.
    """
    first = _entry(fd, 0, there, whole)
    if first is None:
        return None
    if first.name != MANIFEST_NAME:
        raise BundleError(f'not a bundle: it begins with "{first.name}", not {MANIFEST_NAME}')
    data = _member(fd, first, there, MANIFEST_CAP_BYTES)
    second = _entry(fd, first.data_at + first.size, there, whole)
    if data is None or second is None:
        return None
    manifest = parse_manifest(data)
    if second.name != SIGNATURES_NAME:
        return Head(data, manifest, None)
    signatures = _member(fd, second, there, SIGNATURES_CAP_BYTES)
    return None if signatures is None else Head(data, manifest, signatures)


def _entry(fd: int, at: int, there: int, whole: int) -> archive.Entry | None:
    if there < min(at + _HEADER_BYTES, whole):
        return None
    if os.pread(fd, 4, at) != archive.LOCAL_MARK:
        raise BundleError(f"not a bundle: no zip member begins at offset {at}")
    return archive.local_entry(fd, at, whole)


def _member(fd: int, entry: archive.Entry, there: int, cap: int) -> bytes | None:
    if entry.size > cap:
        raise BundleError(f'"{entry.name}" has {entry.size} bytes; the limit is {cap}')
    if there < entry.data_at + entry.size:
        return None
    return archive.read(fd, entry, cap)
