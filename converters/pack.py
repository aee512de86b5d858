"""Packing: a manifest and its members as one ``.edgb`` file, the same bytes every time.

The only place that makes bundles. The order is the manifest, its signatures, then its members as it
lists them; the zip form itself is the store's. See docs/bundles.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
import stat
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Literal

from converters.atomic import draft
from converters.errors import ConversionError
from edged.manifest import Manifest, Member, canonical_json, parse_manifest
from edged.store.bundle import MANIFEST_NAME, SIGNATURES_NAME
from edged.store.signing import Signer, parse_signatures, sign_manifest

ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""The first day zip knows: the same input gives the same bytes on any day."""

Kind = Literal["onnx", "onnx-data", "safetensors", "json", "text", "tensorrt"]


def member(name: str, kind: Kind, data: bytes) -> Member:
    """Describe a member by its bytes."""
    return Member(name=name, type=kind, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def pack(
    path: Path,
    manifest: Manifest,
    members: Mapping[str, bytes],
    signers: Sequence[Signer] = (),
) -> bytes:
    """Write a bundle; an existing file is replaced only by a whole new one.

    Args:
        path: where to.
        manifest: lists every member with its size and hash.
        members: their bytes by name.
        signers: the keys to sign with; none leaves the bundle unsigned.

    Returns:
        The manifest's bytes, whose sha256 is the bundle's digest.

    Raises:
        ManifestError: the manifest contradicts itself.
        ConversionError: the members are not the manifest's, or the file cannot be written.
    """
    data = canonical_json(manifest)
    parse_manifest(data)
    for entry in manifest.members:
        if member(entry.name, "text", members[entry.name]).sha256 != entry.sha256:
            raise ConversionError(f'member "{entry.name}" is not what the manifest says')
    signatures = sign_manifest(data, signers) if signers else None
    write_zip(
        path, data, signatures, {entry.name: members[entry.name] for entry in manifest.members}
    )
    return data


def add_signature(signatures: bytes | None, manifest: bytes, signer: Signer) -> bytes:
    """The bytes of ``signatures.json`` with one more signer; signing twice changes nothing."""
    entries = dict(parse_signatures(signatures)) if signatures else {}
    entries[signer.key_id] = signer.sign(manifest)
    listed = [
        {"key": key, "signature": base64.b64encode(raw).decode("ascii")}
        for key, raw in sorted(entries.items())
    ]
    return json.dumps({"signatures": listed}, sort_keys=True, separators=(",", ":")).encode("ascii")


def write_zip(
    path: Path, manifest: bytes, signatures: bytes | None, members: Mapping[str, bytes]
) -> None:
    """Write the members in order beside the target, then rename over it.

    Raises:
        ConversionError: a member is too large, or the file cannot be written.
    """
    files = {MANIFEST_NAME: manifest}
    if signatures is not None:
        files[SIGNATURES_NAME] = signatures
    files.update(members)
    try:
        with draft(path) as begun:
            _write_members(begun.file, files)
    except OSError as exc:
        raise ConversionError(f"{path}: cannot be written: {exc.strerror}") from exc
    except zipfile.LargeZipFile as exc:
        raise ConversionError(
            f"{path}: over 4 GiB, which the bundle's zip form without extra fields cannot hold"
        ) from exc


def _write_members(file: IO[bytes], files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, ZIP_DATE)
            info.create_system = 3  # else the platform's own number
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data)
