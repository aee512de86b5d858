"""Real bundles for tests, written with the plainest means: no converter is involved.

``make_bundle`` builds a whole signed ``.edgb``; ``write_archive`` writes any members, so that
hostile ones can be made too.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edged.manifest import (
    ArtefactEntry,
    Golden,
    Manifest,
    Member,
    Tolerance,
    canonical_json,
)
from edged.store.golden import write_safetensors
from edged.store.keys import generate_key
from edged.store.signing import Signer, sign_manifest

MODEL, GOLDEN = "model.onnx", "golden.safetensors"
ONNX = ArtefactEntry("onnx", MODEL)


def describe(name: str, kind: str, data: bytes) -> Member:
    """A manifest's entry for some bytes."""
    return Member(name, kind, len(data), hashlib.sha256(data).hexdigest())  # type: ignore[arg-type]


def make_manifest(
    model: Any,
    *,
    name: str = "gate",
    release: int = 1,
    golden: bool = True,
    golden_rows: int = 4,
    extra: Mapping[str, tuple[str, bytes]] | None = None,
    tolerance: Tolerance | None = None,
    artefact: ArtefactEntry = ONNX,
    artefact_type: str = "onnx",
    **fields: Any,
) -> tuple[Manifest, dict[str, bytes]]:
    """A manifest and its members' bytes by name, in the manifest's order.

    Args:
        model: a TinyModel, or anything with ``data``, ``inputs``, ``outputs`` and ``golden``.
        name: the model's name.
        release: its release number.
        golden: whether samples go in.
        golden_rows: how many.
        extra: further members, name to (type, bytes).
        tolerance: for every output; default as the manifest's.
        artefact: what ``model.data`` is, and its name in the bundle.
        artefact_type: the type of that member.
        fields: further fields of the manifest, or other values for these.
    """
    files: dict[str, tuple[str, bytes]] = {artefact.file: (artefact_type, model.data)}
    samples = None
    if golden:
        inputs, outputs = model.golden(golden_rows)
        data = write_safetensors(
            {f"in.{key}": array for key, array in inputs.items()}
            | {f"out.{key}": array for key, array in outputs.items()}
        )
        files[GOLDEN] = ("safetensors", data)
        tolerances = {entry.name: tolerance or Tolerance() for entry in model.outputs}
        samples = Golden(GOLDEN, golden_rows, tolerances)
    files.update(extra or {})
    values: dict[str, Any] = {
        "format": "edged-bundle-v1",
        "name": name,
        "release": release,
        "version": f"{release}.0.0",
        "inputs": tuple(model.inputs),
        "outputs": tuple(model.outputs),
        "artefacts": (artefact,),
        "members": tuple(describe(key, kind, data) for key, (kind, data) in files.items()),
        "golden": samples,
    }
    return Manifest(**(values | fields)), {key: data for key, (_, data) in files.items()}


def make_bundle(
    path: Path,
    model: Any,
    *,
    name: str = "gate",
    release: int = 1,
    key: Path | str | Signer | Sequence[Signer] | None = None,
    golden: bool = True,
    **more: Any,
) -> Path:
    """Write a bundle.

    Args:
        path: the ``.edgb`` file.
        model: see ``make_manifest``.
        name: the model's name.
        release: its release number.
        key: a private key file, a Signer or several; None leaves the bundle unsigned.
        golden: whether samples go in.
        more: see ``make_manifest``.

    Returns:
        ``path``.
    """
    manifest, files = make_manifest(model, name=name, release=release, golden=golden, **more)
    return write_bundle(path, canonical_json(manifest), files, key)


def write_bundle(
    path: Path,
    manifest_bytes: bytes,
    files: Mapping[str, bytes],
    key: Path | str | Signer | Sequence[Signer] | None = None,
) -> Path:
    """Write given bytes as a bundle, signed or not, without looking at them."""
    head = [("manifest.json", manifest_bytes)]
    if key is not None:
        if isinstance(key, (str, Path)):
            key = Signer.from_file(key)
        signers = [key] if isinstance(key, Signer) else key
        head.append(("signatures.json", sign_manifest(manifest_bytes, signers)))
    return write_archive(path, [*head, *files.items()])


def write_archive(path: Path, members: Iterable[tuple[str, bytes]], **info: Any) -> Path:
    """Write members as a zip in the bundle's form; ``info`` sets fields of every ZipInfo."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        for name, data in members:
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o100600 << 16
            for field, value in info.items():
                setattr(entry, field, value)
            archive.writestr(entry, data)
    return path


def make_keys(directory: Path, name: str = "release") -> tuple[Path, Path]:
    """A fresh key pair: (private file, public file)."""
    return generate_key(directory / name)
