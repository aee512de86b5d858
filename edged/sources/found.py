"""What a source has under a name: where a bundle's bytes are, and what they must be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from edged.errors import BundleError
from edged.sources.partial import Wanted

DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Found:
    """A bundle at a source.

    Args:
        url: of the file, or of the layer that holds it.
        wanted: what the file must be.
        digest: what the name meant, ``sha256:HEX``: another one is another bundle.
        is_packed: whether it is a layer (tar, gzip) around the bundle.
        bundle: the bundle's own digest where the source must have that one; else empty.
    """

    url: str
    wanted: Wanted
    digest: str
    is_packed: bool = False
    bundle: str = ""


def parse_object(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object that somebody else wrote, already capped in size.

    Raises:
        BundleError: it is none.
    """
    try:
        document = msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise BundleError(f"{what}: no JSON ({str(exc)[:80]})") from exc
    if not isinstance(document, dict):
        raise BundleError(f"{what}: expected a JSON object")
    return document


def check_size(size: object, most: int, what: str) -> int:
    """A stated size, as a number that we are willing to fetch.

    Raises:
        BundleError: it is none, or larger than ``max_bytes``.
    """
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise BundleError(f"{what}: states no size")
    if size > most:
        raise BundleError(f"{what}: {size} bytes; max_bytes of the source is {most}")
    return size
