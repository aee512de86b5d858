"""An OCI image layout on disk: blobs by digest, and the tags of ``index.json``.

Decides what a folder must look like to be read or added to. Blobs come first and ``index.json``
last, by rename: a folder whose writer was stopped shows the tags it had before. Source: the OCI
image specification 1.1, image-layout.md, descriptor.md and image-index.md.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from converters.atomic import draft, replace_file
from converters.errors import ConversionError

Document: TypeAlias = dict[str, Any]

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
"""What registries take as a tag (OCI distribution specification 1.1)."""

_VERSION = "1.0.0"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_DOCUMENT_CAP_BYTES = 4 << 20
"""Registries take no larger manifest (OCI distribution specification 1.1)."""


def parse_place(text: str) -> tuple[Path, str | None]:
    """Split ``FOLDER[:TAG]``.

    Raises:
        ConversionError: a folder with a colon in its name, which other tools would split, or a tag
            that no registry takes.
    """
    folder, colon, tag = text.partition(":")
    if not folder or (colon and not TAG.fullmatch(tag)):
        raise ConversionError(
            f'"{text}": expected FOLDER or FOLDER:TAG, without a colon in the folder; a tag has up '
            "to 128 letters, digits, points, dashes and underscores"
        )
    return Path(folder), tag or None


def to_json(document: Document) -> bytes:
    """The same bytes for the same content."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")


class Blob:
    """A blob while it is written; ``digest`` and ``size`` are its own once it is whole."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Append bytes."""
        self._hash.update(data)
        self.size += len(data)
        self._file.write(data)
        return len(data)

    @property
    def digest(self) -> str:
        """``sha256:…`` of what was written so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def descriptor(self, media_type: str) -> Document:
        """What other documents call it."""
        return {"mediaType": media_type, "digest": self.digest, "size": self.size}


class Layout:
    """A folder that is an image layout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def opened(cls, folder: Path) -> Layout:
        """An existing layout.

        Raises:
            ConversionError: it is none, or one of another version.
        """
        try:
            text = (folder / "oci-layout").read_bytes()[:_DOCUMENT_CAP_BYTES]
        except OSError as exc:
            raise ConversionError(
                f"{folder}: not an OCI image layout (oci-layout: {exc.strerror})"
            ) from exc
        version = _parse(text, f"{folder}/oci-layout").get("imageLayoutVersion")
        if version != _VERSION:
            raise ConversionError(
                f"{folder}: image layout version {version!r}; this one knows {_VERSION}"
            )
        return cls(folder)

    @classmethod
    @contextmanager
    def changed(cls, folder: Path) -> Iterator[Layout]:
        """A layout to add to, for one writer at a time; made when there is none.

        Raises:
            ConversionError: the folder holds something else, or cannot be written.
        """
        try:
            is_new = _make(folder)
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            raise ConversionError(f"{folder}: {exc.strerror}") from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _check_free(cls(folder))
            (folder / "blobs/sha256").mkdir(parents=True, exist_ok=True)
            yield cls(folder)
        except BaseException as exc:
            if is_new:
                shutil.rmtree(folder, ignore_errors=True)
            if isinstance(exc, OSError):
                raise ConversionError(f"{folder}: cannot be written: {exc.strerror}") from exc
            raise
        finally:
            os.close(lock)

    @contextmanager
    def new_blob(self) -> Iterator[Blob]:
        """Write a blob; it appears under its digest when the context ends well."""
        place = self.folder / "blobs/sha256"
        with draft(place / "blob") as begun:
            blob = Blob(begun.file)
            yield blob
            begun.path = place / blob.digest.partition(":")[2]

    def add(self, data: bytes, media_type: str) -> Document:
        """Write a small blob; returns its descriptor."""
        with self.new_blob() as blob:
            blob.write(data)
        return blob.descriptor(media_type)

    def stream(self, descriptor: Document) -> Iterator[bytes]:
        """A blob's bytes, held against size and digest.

        Raises:
            ConversionError: missing, or not what the descriptor says.
        """
        path = self._path(descriptor)
        digest, size = hashlib.sha256(), 0
        try:
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
                    size += len(chunk)
                    yield chunk
        except OSError as exc:
            raise ConversionError(f"{path}: the blob cannot be read: {exc.strerror}") from exc
        if (f"sha256:{digest.hexdigest()}", size) != (descriptor["digest"], descriptor.get("size")):
            raise ConversionError(f"{path}: damaged: size or digest is not what was stated")

    def document(self, descriptor: Document) -> Document:
        """A blob that is a JSON object; raises as ``stream``, or when it is none."""
        if not 0 <= _number(descriptor.get("size")) <= _DOCUMENT_CAP_BYTES:
            raise ConversionError(
                f"{self._path(descriptor)}: over {_DOCUMENT_CAP_BYTES} bytes, or of no stated size"
            )
        return _parse(b"".join(self.stream(descriptor)), str(self._path(descriptor)))

    def index(self) -> Document:
        """``index.json``; empty for a layout that has none yet.

        Raises:
            ConversionError: it is no image index.
        """
        path = self.folder / "index.json"
        try:
            index = _parse(path.read_bytes(), str(path))
        except FileNotFoundError:
            return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}
        except OSError as exc:
            raise ConversionError(f"{path}: {exc.strerror}") from exc
        listed = index.get("manifests")
        if index.get("schemaVersion") != 2 or not is_list_of_objects(listed):
            raise ConversionError(f"{path}: no OCI image index (schemaVersion 2, manifests)")
        return index

    def tagged(self, tag: str | None) -> Document:
        """The descriptor that bears a tag; without one, the only one.

        Raises:
            ConversionError: there is none; lists the tags.
        """
        listed = self.index()["manifests"]
        found = [one for one in listed if tag is None or tag_of(one) == tag]
        if len(found) != 1:
            tags = ", ".join(sorted(filter(None, map(tag_of, listed)))) or "none"
            wanted = f'no tag "{tag}"' if tag else f"{len(found)} images; name one"
            raise ConversionError(f"{self.folder}: {wanted} (tags: {tags})")
        return dict(found[0])

    def set_tag(self, tag: str, descriptor: Document) -> str | None:
        """Let a tag mean an image; all others stay.

        Returns:
            The digest that it meant before, if it was another.
        """
        index = self.index()
        before = [one for one in index["manifests"] if tag_of(one) == tag]
        others = [one for one in index["manifests"] if tag_of(one) != tag]
        notes = {**descriptor.get("annotations", {}), REF_NAME: tag}
        index["manifests"] = [*others, {**descriptor, "annotations": notes}]
        version = to_json({"imageLayoutVersion": _VERSION})
        replace_file(self.folder / "oci-layout", version)
        replace_file(self.folder / "index.json", to_json(index))
        changed = [one.get("digest") for one in before if one.get("digest") != descriptor["digest"]]
        return str(changed[0]) if changed else None

    def _path(self, descriptor: Document) -> Path:
        match = _DIGEST.fullmatch(str(descriptor.get("digest")))
        if match is None:  # also keeps a digest from being a path
            raise ConversionError(
                f"{self.folder}: digest {str(descriptor.get('digest'))[:80]!r}; only sha256 is read"
            )
        return self.folder / "blobs/sha256" / match[1]


def tag_of(descriptor: Document) -> str | None:
    """The tag that a descriptor of ``index.json`` bears."""
    notes = descriptor.get("annotations")
    return str(notes[REF_NAME]) if isinstance(notes, dict) and REF_NAME in notes else None


def is_list_of_objects(value: object) -> bool:
    """Whether it is a JSON array of objects."""
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _check_free(layout: Layout) -> None:
    """Refuse a folder that is neither empty nor a layout, before anything is written to it."""
    if (layout.folder / "oci-layout").exists():
        Layout.opened(layout.folder).index()
    elif any(layout.folder.iterdir()):
        raise ConversionError(
            f"{layout.folder}: holds files but is no OCI image layout; name a new folder"
        )


def _make(folder: Path) -> bool:
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _number(value: object) -> int:
    return value if isinstance(value, int) else -1


def _parse(data: bytes, where: str) -> Document:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise ConversionError(f"{where}: not JSON ({str(exc)[:80]})") from exc
    if not isinstance(document, dict):
        raise ConversionError(f"{where}: expected a JSON object")
    return document
