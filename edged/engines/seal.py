"""The device's own signature: what it built itself is known again by a key that never leaves it.

A plan is native code. One from a bundle is trusted by the bundle's signature; one that was built
here by this: HMAC-SHA256 with a key that is made at the first use. Whoever can read the key can
also replace the daemon; whoever can only write into the cache cannot make it run anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from edged.errors import LoadError
from edged.store.bundle import write_file
from edged.store.slots import DIRECTORY_FLAGS

KEY_NAME = "device.key"
CREDENTIAL = "edged-device-key"
"""A file of this name in ``$CREDENTIALS_DIRECTORY`` (systemd's LoadCredential=) is the key."""
SEAL_BYTES = 32
_KEY_BYTES = 32
"""As long as what HMAC-SHA256 makes: a longer key is no better."""
_CREDENTIAL_CAP_BYTES = 4096
_DOMAIN = b"edged-device-engine-v1\0"
"""No other use of the key seals the same bytes."""


class Seal:
    """Seals records and knows its own again.

    Args:
        key: secret; at least 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, record: bytes) -> bytes:
        """SEAL_BYTES that nobody without the key can make."""
        return hmac.new(self._key, _DOMAIN + record, hashlib.sha256).digest()

    def holds(self, record: bytes, seal: bytes) -> bool:
        """Whether ``seal`` was made of these bytes with this key."""
        return hmac.compare_digest(self.make(record), seal)


def open_seal(directory: Path, environment: Mapping[str, str] = os.environ) -> Seal:
    """The seal of this device; its key is made when there is none.

    Args:
        directory: holds the key where systemd gives none; must be there.
        environment: says where credentials are.

    Raises:
        LoadError: the key cannot be read or made, or others may have read it; nothing that was
            sealed with it is believed then.
    """
    if folder := environment.get("CREDENTIALS_DIRECTORY"):
        path = Path(folder) / CREDENTIAL
        with contextlib.suppress(FileNotFoundError):
            return Seal(_credential(path))
    try:
        fd = os.open(directory, DIRECTORY_FLAGS)
    except OSError as exc:
        raise LoadError(f"the engine cache cannot be opened: {exc.strerror}") from exc
    try:
        with contextlib.suppress(FileNotFoundError):
            return Seal(_read_key(fd))
        _make_key(fd)
        return Seal(_read_key(fd))
    except OSError as exc:
        raise LoadError(f"the device key cannot be made or read: {exc.strerror}") from exc
    finally:
        os.close(fd)


def owners(directory_fd: int) -> set[int]:
    """Who may own what lies in a folder of ours: we, root, and for root the folder's owner."""
    own = os.geteuid()
    return {0, own} if own else {0, os.fstat(directory_fd).st_uid}


def file_problem(info: os.stat_result, allowed: set[int]) -> str:
    """Why a file cannot be one that only we wrote; empty when it can."""
    if not stat.S_ISREG(info.st_mode):
        return "it is no plain file"
    if info.st_uid not in allowed:
        return f"it belongs to user {info.st_uid}"
    if info.st_mode & 0o077:
        return f"its mode is {stat.S_IMODE(info.st_mode):04o}, expected 0600"
    if info.st_nlink != 1:
        return f"it has {info.st_nlink} names"
    return ""


def own_file(directory_fd: int, name: str) -> None:
    """Give a file that root wrote to the folder's owner, who is to read it."""
    owner = os.fstat(directory_fd)
    if os.geteuid() == 0 and owner.st_uid:
        os.chown(name, owner.st_uid, owner.st_gid, dir_fd=directory_fd, follow_symlinks=False)


def _credential(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            key = file.read(_CREDENTIAL_CAP_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise LoadError(f"credential {CREDENTIAL} cannot be read: {exc.strerror}") from exc
    if not _KEY_BYTES <= len(key) <= _CREDENTIAL_CAP_BYTES:
        raise LoadError(
            f"credential {CREDENTIAL} has {len(key)} bytes; expected {_KEY_BYTES} to "
            f"{_CREDENTIAL_CAP_BYTES}"
        )
    return key


def _read_key(fd: int) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        opened = os.open(KEY_NAME, flags, dir_fd=fd)
    except OSError as exc:
        if isinstance(exc, FileNotFoundError):
            raise
        raise LoadError(f"the device key cannot be read: {exc.strerror}") from exc
    with os.fdopen(opened, "rb") as file:
        problem = file_problem(os.fstat(opened), owners(fd))
        key = file.read(_KEY_BYTES + 1) if not problem else b""
    if not problem and len(key) != _KEY_BYTES:
        problem = f"it has {len(key)} bytes, expected {_KEY_BYTES}"
    if problem:
        raise LoadError(
            f"the device key ({KEY_NAME} of the engine cache) is not used: {problem}; delete it, "
            "and engines are built anew"
        )
    return key


def _make_key(fd: int) -> None:
    """Two processes may do so at once; the first that links its key into place has made it."""
    temporary = f".{KEY_NAME}-{secrets.token_hex(8)}"
    write_file(fd, temporary, iter([secrets.token_bytes(_KEY_BYTES)]))
    try:
        own_file(fd, temporary)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, KEY_NAME, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
    finally:
        os.unlink(temporary, dir_fd=fd)
    os.fsync(fd)
