"""A release in the store: its manifest, and members whose very bytes were verified when read.

Decides nothing about which release serves. Every read opens the folder, then the file relative to
it, follows no link, and hashes what it returns: what was verified is what is loaded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edged.errors import BundleError, IncompatibleError, ManifestError, TensorMismatchError
from edged.manifest import (
    MANIFEST_CAP_BYTES,
    ArtefactEntry,
    Golden,
    Manifest,
    Member,
    canonical_json,
    parse_manifest,
)
from edged.store.bundle import (
    MANIFEST_NAME,
    SIGNATURES_NAME,
    bundle_digest,
    check_names,
    read_file,
    read_small,
)
from edged.store.golden import read_safetensors
from edged.store.signing import SIGNATURES_CAP_BYTES, parse_signatures
from edged.store.slots import DIRECTORY_FLAGS, check_digest
from edged.store.trust_store import TrustStore
from edged.tensors import Array, check_tensors


class Stored(Protocol):
    """What loading needs of a release: one in the store, or one with engines laid over it."""

    @property
    def manifest(self) -> Manifest:
        """What the bundle promises."""
        ...

    def artefact(self, runtime: str, precision: str = "") -> bytes:
        """The verified bytes of the artefact for a runtime, of the first or of one precision."""
        ...

    def read_member(self, name: str) -> bytes:
        """The verified bytes of any file of the bundle."""
        ...

    def sidecars(self, entry: ArtefactEntry) -> dict[str, bytes]:
        """The verified files that an artefact keeps weights in, by name."""
        ...

    def golden(
        self, entry: ArtefactEntry | None = None
    ) -> tuple[dict[str, Array], dict[str, Array]] | None:
        """Sample inputs and their expected outputs; those of one model file, or the bundle's."""
        ...


@dataclass(frozen=True, slots=True)
class StoredRelease:
    """One bundle in the store.

    Args:
        digest: of its manifest.
        manifest: verified against the digest.
        directory: where its files lie.
    """

    digest: str
    manifest: Manifest
    directory: Path

    def read_member(self, name: str) -> bytes:
        """The bytes of a member, verified.

        Raises:
            ManifestError: the manifest has no member of that name.
            DigestMismatchError: the file is not what the manifest says any more.
        """
        for member in self.manifest.members:
            if member.name == name:
                return self._read(member)
        raise ManifestError(f'the bundle has no member "{name[:64]}"')

    def artefact(self, runtime: str, precision: str = "") -> bytes:
        """The model file for a runtime, e.g. ``onnx``, verified; the first without a precision.

        Raises:
            IncompatibleError: the bundle has none; the message says what it has.
        """
        for entry in self.manifest.artefacts:
            if entry.runtime == runtime and precision in ("", entry.precision):
                return self.read_member(entry.file)
        have = ", ".join(sorted({f"{e.runtime} {e.precision}" for e in self.manifest.artefacts}))
        wanted = f"{runtime} artefact" + (f" of {precision}" if precision else "")
        raise IncompatibleError(f"the bundle has no {wanted}; it has: {have}")

    def sidecars(self, entry: ArtefactEntry) -> dict[str, bytes]:
        """The files that an artefact does not go without, verified, by name.

        All weights that any ONNX artefact has, the one ``.bin`` beside an ``.xml`` of OpenVINO, or
        those that the artefact names.
        """
        if isinstance(entry.files, tuple):
            return {name: self.read_member(name) for name in entry.files}
        beside = entry.file.removesuffix(".xml") + ".bin"
        return {
            member.name: self._read(member)
            for member in self.manifest.members
            if (entry.runtime == "onnx" and member.type == "onnx-data")
            or (entry.runtime == member.type == "openvino" and member.name == beside)
        }

    def golden(
        self, entry: ArtefactEntry | None = None
    ) -> tuple[dict[str, Array], dict[str, Array]] | None:
        """Sample inputs and their expected outputs; None when the bundle has no samples.

        Args:
            entry: the model file whose answers they are to be; None for the bundle's own.

        Raises:
            ManifestError: the samples do not fit the signature.
        """
        golden = self.manifest.golden
        if golden is None:
            return None
        inputs, outputs = self._samples(golden)
        own = None if entry is None else self.manifest.golden_of(entry)
        if own is None or own is golden:
            return self._fitting(golden, inputs, outputs)
        if self.manifest.is_row_wise:
            inputs = {name: array[: own.rows] for name, array in inputs.items()}
        surplus, outputs = self._samples(own)
        if surplus:
            raise ManifestError(f"{own.file}: expected out.NAME alone; the inputs are shared")
        return self._fitting(own, inputs, outputs)

    def _samples(self, golden: Golden) -> tuple[dict[str, Array], dict[str, Array]]:
        inputs: dict[str, Array] = {}
        outputs: dict[str, Array] = {}
        for name, array in read_safetensors(self.read_member(golden.file)).items():
            side, _, tensor = name.partition(".")
            if side not in ("in", "out") or not tensor:
                raise ManifestError(f'{golden.file}: expected in.NAME or out.NAME; found "{name}"')
            (inputs if side == "in" else outputs)[tensor] = array
        return inputs, outputs

    def _fitting(
        self, golden: Golden, inputs: dict[str, Array], outputs: dict[str, Array]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        try:
            check_tensors(self.manifest.input_specs(), inputs, golden.file)
            check_tensors(self.manifest.output_specs(), outputs, golden.file)
        except TensorMismatchError as exc:
            raise ManifestError(f"golden samples do not fit the signature: {exc.message}") from exc
        return inputs, outputs

    def verify(self, trust: TrustStore) -> tuple[str, ...]:
        """Check the stored signatures against the keys trusted now; see TrustStore.verify."""
        return trust.verify(canonical_json(self.manifest), self._signatures())

    def signers(self) -> frozenset[str]:
        """The ids of the keys that signed, trusted or not; raises SignatureError."""
        signatures = self._signatures()
        entries = () if signatures is None else parse_signatures(signatures)
        return frozenset(name for name, _ in entries)

    def _signatures(self) -> bytes | None:
        fd = _open_directory(self.directory)
        try:
            return read_small(fd, SIGNATURES_NAME, SIGNATURES_CAP_BYTES)
        except FileNotFoundError:
            return None
        finally:
            os.close(fd)

    def is_whole(self) -> bool:
        """Whether every member is there and has its size; cheap, hashes nothing."""
        try:
            fd = _open_directory(self.directory)
        except BundleError:
            return False
        try:
            for member in self.manifest.members:
                info = os.stat(member.name, dir_fd=fd, follow_symlinks=False)
                if info.st_size != member.size:
                    return False
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def _read(self, member: Member) -> bytes:
        fd = _open_directory(self.directory)
        try:
            return read_file(fd, member)
        finally:
            os.close(fd)


def open_release(store: Path, digest: str) -> StoredRelease:
    """Find a release in the store.

    Raises:
        BundleError: it is not there, or its manifest is not the one that was signed.
    """
    directory = store / check_digest(digest)
    fd = _open_directory(directory)
    try:
        data = read_small(fd, MANIFEST_NAME, MANIFEST_CAP_BYTES)
    except OSError as exc:
        raise BundleError(f"stored release {digest[:12]}: no manifest: {exc.strerror}") from exc
    finally:
        os.close(fd)
    if bundle_digest(data) != digest:
        raise BundleError(
            f"stored release {digest[:12]}: its manifest was changed; import the bundle again"
        )
    manifest = parse_manifest(data)
    check_names(manifest)
    return StoredRelease(digest, manifest, directory)


def _open_directory(directory: Path) -> int:
    try:
        return os.open(directory, DIRECTORY_FLAGS)
    except OSError as exc:
        raise BundleError(
            f"release {directory.name[:12]} is not in the store: {exc.strerror}"
        ) from exc
