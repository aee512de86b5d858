"""The last good configuration, kept with its files so that a broken one can be survived at boot.

Decides the layout of the copy and makes every step of writing it crash-safe:

    DIRECTORY/current -> copy-<digest>-<random>
    DIRECTORY/copy-…/copy.json      original directory, names and hashes
    DIRECTORY/copy-…/<number>       the bytes of the files, in order

Readers see the old copy or the new one, never a mixture and never none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from pathlib import Path
from typing import NoReturn

import msgspec
from msgspec import Struct

from edged import decoding
from edged.config.problems import ConfigProblemsError, Problem
from edged.config.schema import TrustConfig
from edged.config.snapshot import Snapshot
from edged.config.source import MAX_FILE_BYTES, MAX_FILES, Source
from edged.faults import fault
from edged.system.atomic import make_directory
from edged.system.breath import breathe

_CURRENT = "current"
_INDEX = "copy.json"
_PREFIX = "copy-"


class SavedFile(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the copy: its name relative to the root, and the hash of its bytes."""

    name: str
    sha256: str


class SavedIndex(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a copy holds, and whom it trusts where that is not what the files say."""

    root: str
    files: list[SavedFile]
    trust: TrustConfig | None = None


def save(snapshot: Snapshot, directory: Path) -> None:
    """Keep a copy of the files; returns when it would survive a power cut.

    Args:
        snapshot: the configuration to keep; an identical copy is not written again.
        directory: made when missing; holds nothing but copies.

    Raises:
        OSError: it could not be written; the copy from before is still there.
    """
    make_directory(directory)
    wanted = _index(snapshot)
    breathe()
    with contextlib.suppress(ConfigProblemsError):
        source, _ = read_saved(directory)
        files = list(source.files.items())
        if (source.root, source.trust) == (snapshot.root, snapshot.narrowed) and files == list(
            snapshot.files.items()
        ):
            return
    name = f"{_PREFIX}{snapshot.digest[:16]}-{secrets.token_hex(4)}"
    copy = directory / name
    try:
        _write_copy(copy, wanted, list(snapshot.files.values()))
        fault("saved.copied")
        _sync_directory(directory)
        _swap_link(directory, name)
    except BaseException:
        if _linked(directory) != name:  # the link may have been swapped before the failure
            shutil.rmtree(copy, ignore_errors=True)
        raise
    _remove_others(directory, name)


def read_saved(directory: Path) -> tuple[Source, Path]:
    """Read the copy.

    Returns:
        The source with its original root, and the directory the copy was read from.

    Raises:
        ConfigProblemsError: there is none, or its bytes are not the ones that were saved.
    """
    try:
        copy = directory / (directory / _CURRENT).readlink()  # resolved once: swaps do not mix
    except FileNotFoundError:
        _refuse(directory, "holds no saved configuration")
    except OSError as exc:
        _refuse(directory, f"holds a saved configuration that cannot be read: {exc.strerror}")
    return read_copy(copy, directory), copy


def read_copy(copy: Path, directory: Path) -> Source:
    """Read one copy.

    Args:
        copy: its folder.
        directory: what messages name.

    Raises:
        ConfigProblemsError: there is none, or its bytes are not the ones that were saved.
    """
    try:
        index = decoding.decode((copy / _INDEX).read_bytes(), SavedIndex)
        files = {
            item.name: _read_member(copy / str(number), item.sha256)
            for number, item in enumerate(index.files[:MAX_FILES])
        }
    except FileNotFoundError:
        _refuse(directory, "holds no saved configuration")
    except OSError as exc:
        _refuse(directory, f"holds a saved configuration that cannot be read: {exc.strerror}")
    except (msgspec.DecodeError, ValueError) as exc:
        _refuse(directory, f"holds a damaged saved configuration ({exc}); it is not used")
    root = Path(index.root)
    if not files or not root.is_absolute():
        _refuse(directory, "holds a damaged saved configuration (no files); it is not used")
    return Source(root, files, index.trust)


def read_trust(copy: Path) -> TrustConfig | None:
    """Whom a copy trusts, where that is not what its files say; raises OSError, MsgspecError."""
    return decoding.decode((copy / _INDEX).read_bytes(), SavedIndex).trust


def write_copy(snapshot: Snapshot, copy: Path) -> None:
    """Write a copy into a folder that is made for it; all of it is synced but its own name."""
    _write_copy(copy, _index(snapshot), list(snapshot.files.values()))


def _index(snapshot: Snapshot) -> SavedIndex:
    items = [
        SavedFile(name, hashlib.sha256(data).hexdigest()) for name, data in snapshot.files.items()
    ]
    return SavedIndex(str(snapshot.root), items, snapshot.narrowed)


def _read_member(path: Path, sha256: str) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    breathe()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{path.name} does not have the hash it was saved with")
    return data


def _refuse(directory: Path, message: str) -> NoReturn:
    raise ConfigProblemsError([Problem(str(directory), 0, 0, "", message)]) from None


def _write_copy(copy: Path, index: SavedIndex, contents: list[bytes]) -> None:
    copy.mkdir(mode=0o700)
    breathe()
    for number, data in enumerate(contents):
        _write_file(copy / str(number), data)
    _write_file(copy / _INDEX, msgspec.json.encode(index))
    _sync_directory(copy)


def _write_file(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    breathe()
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    breathe()


def _linked(directory: Path) -> str | None:
    try:
        return str((directory / _CURRENT).readlink())
    except OSError:
        return None


def _swap_link(directory: Path, name: str) -> None:
    breathe()
    fresh = directory / f".{_CURRENT}-{secrets.token_hex(4)}"
    fresh.symlink_to(name)
    try:
        fault("saved.link")
        fresh.replace(directory / _CURRENT)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    fault("saved.renamed")
    _sync_directory(directory)
    fault("saved.linked")


def _remove_others(directory: Path, name: str) -> None:
    """Old copies and what a crash left; a failure here costs some bytes only."""
    for entry in directory.iterdir():
        breathe()
        if entry.name.startswith(_PREFIX) and entry.name != name:
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name.startswith(f".{_CURRENT}-"):
            entry.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
