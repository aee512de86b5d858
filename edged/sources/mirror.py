"""A mirror: files on any web server, with a list that says what they must be.

``URL/NAME/index.json`` lists a model's releases, their files and the digests of their chunks
(docs/sources.md). Decides which of them is meant. The list says nothing about trust: that is the
bundle's own signatures.
"""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import quote

import msgspec
from msgspec import Meta

from edged import decoding
from edged.errors import BundleError, NotFoundError
from edged.sources.found import Found, check_size, parse_object
from edged.sources.partial import Wanted
from edged.sources.web import Web

FORMAT = "edged-mirror-v1"
INDEX_CAP_BYTES = 4 << 20
"""Ten releases of 4 GiB each have 0.7 MB of digests."""
_LEAST_CHUNK, _MOST_CHUNK = 64 << 10, 64 << 20
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)

_Tag = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")]
"""As in a reference; they are shown on terminals."""
_Hex = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class _Release(msgspec.Struct, frozen=True):
    release: Annotated[int, Meta(ge=1, lt=2**53)]
    digest: Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
    file: str
    size: int
    sha256: _Hex
    chunk_size: Annotated[int, Meta(ge=_LEAST_CHUNK, le=_MOST_CHUNK)]
    chunks: Annotated[tuple[_Hex, ...], Meta(max_length=65536)]


class _Index(msgspec.Struct, frozen=True):
    format: str
    name: str
    tags: Annotated[dict[_Tag, int], Meta(max_length=1000)]
    releases: Annotated[tuple[_Release, ...], Meta(max_length=1000)]


def find(web: Web, name: str, tag: str, digest: str, most: int) -> Found:
    """What a mirror has under a name.

    Args:
        web: the server.
        name: of the model.
        tag: a tag, or a release's number.
        digest: ``sha256:HEX`` of the bundle itself, which goes before the tag; may be empty.
        most: bytes of a bundle that may be fetched.

    Raises:
        EdgedError: there is none, it cannot be had, or the list contradicts itself.
    """
    folder = f"{web.url}/{quote(name)}"
    answer = web.document(f"{folder}/index.json", "application/json", INDEX_CAP_BYTES)
    what = f"{name}/index.json"
    try:
        index = decoding.convert(parse_object(answer.data, what), _Index)
    except msgspec.ValidationError as exc:
        raise BundleError(f"{what}: {str(exc)[:200]}") from exc
    if index.format != FORMAT:
        raise BundleError(f"{what}: format {index.format[:40]!r}; only {FORMAT} is read")
    release = _chosen(index, name, tag, digest)
    size = check_size(release.size, most, f"{name} {release.release}")
    if _FILE.fullmatch(release.file) is None or ".." in release.file:
        raise BundleError(f"{what}: {release.file[:60]!r} is no name of a file beside it")
    if len(release.chunks) != -(-size // release.chunk_size):
        raise BundleError(
            f"{what}: {len(release.chunks)} chunks of {release.chunk_size} bytes do not make {size}"
        )
    return Found(
        url=f"{folder}/{quote(release.file)}",
        wanted=Wanted(size, release.sha256, release.chunk_size, release.chunks),
        digest=release.digest,
        bundle=release.digest.partition(":")[2],
    )


def _chosen(index: _Index, name: str, tag: str, digest: str) -> _Release:
    by_number = {one.release: one for one in index.releases}
    if digest:
        found = [one for one in index.releases if one.digest == digest]
    else:
        number = index.tags.get(tag)
        if number is None and tag.isdecimal() and tag.isascii() and len(tag) < 16:
            number = int(tag)
        if number is None and tag == "latest" and by_number:
            number = max(by_number)
        found = [by_number[number]] if number in by_number else []
    if not found:
        tags = ", ".join(sorted(index.tags)[:10]) or "none"
        numbers = ", ".join(map(str, sorted(by_number)[-10:])) or "none"
        shown = digest or tag
        raise NotFoundError(
            f'{name} has nothing called "{shown[:80]}" there (tags: {tags}; releases: {numbers})'
        )
    return found[0]
