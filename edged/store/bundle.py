"""A bundle as a file: its manifest, its signatures, and members that are what the manifest says.

Decides whether a ``.edgb`` file is exactly the bundle its manifest describes, in the order: size
caps, frame, manifest, signatures, room on disk, members, model files. Each step ends before the
next touches anything. Never extracts by a name from the archive: names come from the manifest, and
the archive must have the same ones. Source: the bundle format in docs/bundles.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edged.errors import BundleError, DigestMismatchError, IncompatibleError, ManifestError
from edged.faults import fault
from edged.manifest import MANIFEST_CAP_BYTES, Golden, Manifest, Member, parse_manifest
from edged.specs import size_words
from edged.store import archive
from edged.store.onnx_check import check_onnx
from edged.store.signing import SIGNATURES_CAP_BYTES
from edged.store.trust_store import TrustStore

MANIFEST_NAME = "manifest.json"
SIGNATURES_NAME = "signatures.json"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_ENDINGS = {
    "onnx": (".onnx",),
    "onnx-data": (".data", ".onnx_data", ".bin"),
    "tensorrt": (".plan", ".engine"),
    "openvino": (".xml", ".bin"),
    "safetensors": (".safetensors",),
    "json": (".json",),
    "text": (".txt", ".md"),
}
"""What a member of each type may be called: a script is not let in as "text"."""
_ARTEFACT_TYPES = {
    "onnx": ("onnx",),
    "tensorrt": ("tensorrt", "onnx"),
    "openvino": ("openvino",),
    "genai": ("json",),
}
"""For each kind of artefact, the types its member may have: of TensorRT's, an engine, or the ONNX
file that one is to be built from (no other runtime takes it)."""
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_RESERVE = 1.2
"""Room asked for beyond the members themselves: a full state disk stops more than an update."""


def bundle_digest(manifest_bytes: bytes) -> str:
    """The identity of a bundle: SHA-256, in hex, of its manifest, which names all other hashes."""
    return hashlib.sha256(manifest_bytes).hexdigest()


@dataclass(frozen=True, slots=True)
class Bundle:
    """An open bundle whose frame and manifest were checked; its members were not read yet.

    Args:
        fd: the open file; everything is read through it, so that what was checked is what is used.
        manifest_bytes: as stored; what is hashed and signed.
        manifest: the same, parsed.
        signatures: the bytes of signatures.json, or None.
        entries: where each member lies, by name.
    """

    fd: int
    manifest_bytes: bytes
    manifest: Manifest
    signatures: bytes | None
    entries: dict[str, archive.Entry]

    @property
    def digest(self) -> str:
        """See ``bundle_digest``."""
        return bundle_digest(self.manifest_bytes)

    def stream(self, member: Member) -> Iterator[bytes]:
        """A member's bytes; raises DigestMismatchError after the last when they are not its own."""
        digest = hashlib.sha256()
        for chunk in archive.stream(self.fd, self.entries[member.name]):
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != member.sha256:
            raise DigestMismatchError(
                f'member "{member.name}": its bytes do not have the sha256 that the manifest states'
            )


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """Open a bundle and check everything but its members' bytes.

    Raises:
        BundleError: not readable, not exactly the archive form, or other members than the
            manifest's.
        ManifestError: the manifest is malformed or contradicts itself.
    """
    # O_NONBLOCK: opening a FIFO that lies there must fail the check below, not wait for a writer.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        fd = os.open(path, flags)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "the path holds a NUL"
        raise BundleError(f"cannot open the bundle {path.name}: {reason}") from exc
    try:
        yield _read_frame(fd)
    finally:
        os.close(fd)


def read_manifest(path: Path) -> tuple[bytes, Manifest, bytes | None]:
    """Read what a bundle says of itself, without reading a member.

    Returns:
        The manifest's bytes, the manifest, and the bytes of signatures.json or None.

    Raises:
        BundleError: see ``open_bundle``.
    """
    with open_bundle(path) as bundle:
        return bundle.manifest_bytes, bundle.manifest, bundle.signatures


def stage(path: Path, trust: TrustStore, directory: Path) -> Manifest:
    """Verify a bundle and write its files into an empty directory, each fsynced.

    Args:
        path: the ``.edgb`` file.
        trust: whose signatures count.
        directory: exists, is empty, and belongs to the caller, who removes it after an error.

    Raises:
        SignatureError: too few trusted signatures; then nothing was written.
        DigestMismatchError: a member is not what the manifest says.
        BundleError: any other flaw of the bundle, or no room for it.
    """
    with open_bundle(path) as bundle:
        trust.verify(bundle.manifest_bytes, bundle.signatures)
        stage_bundle(bundle, directory)
        return bundle.manifest


def stage_bundle(bundle: Bundle, directory: Path) -> None:
    """Write an open bundle, whose signatures the caller has verified; see ``stage``."""
    directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check_room(bundle.manifest, directory_fd)
        for member in bundle.manifest.members:
            write_file(directory_fd, member.name, bundle.stream(member))
            fault(f"stage.{member.name}")
        if bundle.signatures is not None:
            write_file(directory_fd, SIGNATURES_NAME, iter((bundle.signatures,)))
        write_file(directory_fd, MANIFEST_NAME, iter((bundle.manifest_bytes,)))
        for member in bundle.manifest.members:
            if member.type == "onnx":
                check_model(member, read_file(directory_fd, member), bundle.manifest)
        os.fsync(directory_fd)
    except OSError as exc:
        raise BundleError(f"cannot write the bundle to the store: {exc.strerror}") from exc
    finally:
        os.close(directory_fd)


def check_model(member: Member, data: bytes, manifest: Manifest) -> None:
    """Check an ONNX file before any runtime sees it; external data may be in members only."""
    sidecars = {other.name: other.size for other in manifest.members if other.type == "onnx-data"}
    try:
        check_onnx(data, sidecars)
    except ManifestError as exc:
        raise ManifestError(f'member "{member.name}": {exc.message}') from exc


def read_file(directory_fd: int, member: Member) -> bytes:
    """Read a stored member; the bytes returned are the ones that were hashed.

    Raises:
        DigestMismatchError: missing, a link, or not of the size and hash the manifest states.
    """
    try:
        with os.fdopen(os.open(member.name, _READ_FLAGS, dir_fd=directory_fd), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(member.size + 1) if size == member.size else b""
    except OSError as exc:
        raise DigestMismatchError(
            f'stored member "{member.name}" cannot be read: {exc.strerror}; import the bundle again'
        ) from exc
    if len(data) != member.size or hashlib.sha256(data).hexdigest() != member.sha256:
        raise DigestMismatchError(
            f'stored member "{member.name}" is not what the manifest says ({size} bytes of '
            f"{member.size}); import the bundle again"
        )
    return data


def read_small(directory_fd: int, name: str, cap_bytes: int) -> bytes:
    """Read at most ``cap_bytes`` of a file that is not a link, relative to its folder.

    Raises:
        OSError: it is not there, or a link.
    """
    with os.fdopen(os.open(name, _READ_FLAGS, dir_fd=directory_fd), "rb") as file:
        return file.read(cap_bytes)


def keep_signatures(store_fd: int, digest: str, signatures: bytes | None) -> None:
    """Replace a stored release's signatures by the ones just verified, if they differ."""
    if signatures is None:
        return
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(digest, flags, dir_fd=store_fd)
    try:
        with contextlib.suppress(FileNotFoundError):
            if read_small(fd, SIGNATURES_NAME, SIGNATURES_CAP_BYTES) == signatures:
                return
        temporary = f".{SIGNATURES_NAME}-{secrets.token_hex(8)}"
        write_file(fd, temporary, iter([signatures]))
        fault("signatures.written")
        os.rename(temporary, SIGNATURES_NAME, src_dir_fd=fd, dst_dir_fd=fd)
        fault("signatures.renamed")
        os.fsync(fd)
    finally:
        os.close(fd)


def write_file(directory_fd: int, name: str, chunks: Iterator[bytes]) -> None:
    """Create a file of mode 0600 in a directory, and fsync it; it must not exist."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=directory_fd), "wb", buffering=0) as file:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[file.write(view) :]
        os.fsync(file.fileno())


def _read_frame(fd: int) -> Bundle:
    entries = archive.read_entries(fd)
    if entries[0].name != MANIFEST_NAME:
        raise BundleError(f'the first member must be {MANIFEST_NAME}; it is "{entries[0].name}"')
    manifest_bytes = archive.read(fd, entries[0], MANIFEST_CAP_BYTES)
    manifest = parse_manifest(manifest_bytes)
    check_names(manifest)
    rest = entries[1:]
    signatures = None
    if rest and rest[0].name == SIGNATURES_NAME:
        signatures = archive.read(fd, rest[0], SIGNATURES_CAP_BYTES)
        rest = rest[1:]
    _check_members(manifest, rest)
    return Bundle(fd, manifest_bytes, manifest, signatures, {entry.name: entry for entry in rest})


def _check_members(manifest: Manifest, entries: tuple[archive.Entry, ...]) -> None:
    wanted = [member.name for member in manifest.members]
    found = [entry.name for entry in entries]
    surplus = [name for name in found if name not in wanted]
    missing = [name for name in wanted if name not in found]
    if surplus or missing:
        parts = [f'"{name}" is in the archive but not in the manifest' for name in surplus[:4]]
        parts += [f'"{name}" is in the manifest but not in the archive' for name in missing[:4]]
        raise BundleError("; ".join(parts))
    if found != wanted:
        raise BundleError("the archive's members are not in the manifest's order")
    for member, entry in zip(manifest.members, entries, strict=True):
        if member.size != entry.size:
            raise DigestMismatchError(
                f'member "{member.name}" has {entry.size} bytes in the archive; the manifest '
                f"states {member.size}"
            )


def check_names(manifest: Manifest) -> None:
    """Refuse names that could be taken for something else, and files of an unfitting type.

    Raises:
        ManifestError: names the member and what was expected.
    """
    # Again and with fullmatch: a pattern that ends in "$" lets a final newline through.
    if not _MODEL_NAME.fullmatch(manifest.name):
        raise ManifestError("name: not a valid model name")
    for member in manifest.members:
        if not _NAME.fullmatch(member.name) or member.name in (MANIFEST_NAME, SIGNATURES_NAME):
            raise ManifestError(f"members: {member.name[:64]!r} is not a valid name for a member")
        if not member.name.endswith(_ENDINGS[member.type]):
            raise ManifestError(
                f'members: "{member.name}" is not a name for type {member.type}; expected an '
                f"ending of {', '.join(_ENDINGS[member.type])}"
            )
    if any(entry.runtime == "pipeline" for entry in manifest.artefacts):
        raise ManifestError(
            "artefacts: a pipeline is written into the configuration, it is in no bundle"
        )
    types = {member.name: member.type for member in manifest.members}
    wanted = [(entry.file, _ARTEFACT_TYPES[entry.runtime]) for entry in manifest.artefacts]
    samples = (manifest.golden, *(entry.golden for entry in manifest.artefacts))
    wanted += [(one.file, ("safetensors",)) for one in samples if isinstance(one, Golden)]
    for name, kinds in wanted:
        if types[name] not in kinds:
            raise ManifestError(
                f'"{name}" must be a member of type {" or ".join(kinds)}; it is {types[name]}'
            )


def _check_room(manifest: Manifest, directory_fd: int) -> None:
    needed = int(sum(member.size for member in manifest.members) * _RESERVE)
    disk = os.statvfs(directory_fd)
    free = disk.f_bavail * disk.f_frsize
    if free < needed:
        raise IncompatibleError(
            f"the store's disk has {size_words(free)} free; this bundle needs "
            f"{size_words(needed)} (its members and a fifth more); make room, then try again"
        )
