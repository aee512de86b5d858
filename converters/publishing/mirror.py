"""``edged-convert publish --mirror``: a verified bundle in a folder for any web server.

``FOLDER/NAME/`` gets the file and its entry in ``index.json``, which says what every chunk of it
must be (docs/sources.md). The list is replaced last and as a whole: whoever reads it meanwhile
finds everything that it names. Uploads nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from converters.atomic import draft, replace_file
from converters.errors import ConversionError
from converters.publishing.checked import CheckedBundle, checked
from converters.publishing.layout import Document, parse_place

FORMAT = "edged-mirror-v1"
INDEX = "index.json"
CHUNK_BYTES = 4 << 20
"""What a broken line costs at most; a thousand digests for the largest bundle."""


def publish_to_mirror(bundle: Path, place: str, keys: Sequence[Path], threshold: int) -> list[str]:
    """Put a bundle into a mirror's folder; what is there of other releases stays.

    Args:
        bundle: the file; verified before anything is written.
        place: ``FOLDER[:TAG]``; with a tag, it means this release from now on.
        keys: trusted public keys, see ``checked``.
        threshold: how many of them must have signed.

    Returns:
        What was checked and written, a line each.

    Raises:
        BundleError: the bundle is not whole, or not signed by enough of the keys.
        ConversionError: the folder is none that can be used, or has other contents under this
            release's number.
    """
    folder, tag = parse_place(place)
    with checked(bundle, keys, threshold) as source, _changed(folder / source.manifest.name) as own:
        index = _read(own, source.manifest.name)
        release = source.manifest.release
        entry = _entry(source)
        same = [one for one in index["releases"] if one.get("release") == release]
        if same and same[0].get("digest") != entry["digest"]:
            raise ConversionError(
                f"{own}: release {release} is there with other contents; a release number is never "
                "used twice"
            )
        with draft(own / source.file_name) as begun, source.path.open("rb") as file:
            shutil.copyfileobj(file, begun.file)
        others = [one for one in index["releases"] if one.get("release") != release]
        index["releases"] = sorted([*others, entry], key=lambda one: int(one["release"]))
        before = index["tags"].get(tag) if tag else None
        if tag:
            index["tags"] = dict(sorted({**index["tags"], tag: release}.items()))
        replace_file(own / INDEX, json.dumps(index, indent=1).encode("ascii") + b"\n")
        lines = [*source.said, f"mirror: {own / source.file_name} ({len(entry['chunks'])} chunks)"]
    if tag:
        changed = f" (was {before})" if before not in (None, release) else ""
        lines.append(f"tag: {tag} is release {release}{changed}")
    return lines


def _entry(source: CheckedBundle) -> dict[str, Any]:
    chunks = []
    with source.path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            chunks.append(hashlib.sha256(chunk).hexdigest())
    return {
        "release": source.manifest.release,
        "version": source.manifest.version,
        "digest": f"sha256:{source.digest}",
        "file": source.file_name,
        "size": source.path.stat().st_size,
        "sha256": source.sha256,
        "chunk_size": CHUNK_BYTES,
        "chunks": chunks,
    }


def _read(folder: Path, name: str) -> Document:
    path = folder / INDEX
    try:
        index = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {"format": FORMAT, "name": name, "tags": {}, "releases": []}
    except (OSError, ValueError) as exc:
        raise ConversionError(f"{path}: cannot be read: {exc}") from exc
    is_ours = isinstance(index, dict) and (index.get("format"), index.get("name")) == (FORMAT, name)
    releases = index.get("releases") if is_ours else None
    listed = isinstance(releases, list) and all(
        isinstance(one, dict) and isinstance(one.get("release"), int) for one in releases
    )
    if not listed or not isinstance(index.get("tags"), dict):
        raise ConversionError(f"{path}: no list of {name} in the form {FORMAT}")
    return dict(index)


@contextmanager
def _changed(folder: Path) -> Iterator[Path]:
    """The folder of a model; one program at a time changes it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise ConversionError(f"{folder}: {exc.strerror}") from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    except OSError as exc:
        raise ConversionError(f"{folder}: cannot be written: {exc.strerror}") from exc
    finally:
        os.close(lock)
