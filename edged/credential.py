"""Values of secrets: where they are read, and which files are no place for one.

Decides what may be read as a secret; the value is told to nobody but the caller, no message and no
exception carries it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edged.config.broker import Secret
from edged.config.snapshot import Snapshot
from edged.config.source import distrust
from edged.errors import ApplyError

_CAP_BYTES = 64 << 10
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def read_secret(snapshot: Snapshot, secret: Secret) -> str:
    """The value of a secret, without the line end that editors add.

    Raises:
        ApplyError: it cannot be read, or others could have written it; the message names the file,
            never the value.
    """
    path = secret_path(snapshot, secret)
    try:
        descriptor = os.open(path, _FLAGS)  # a pipe must not hold up the daemon
        try:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode):
                raise ApplyError(f"{path}: the secret is not a regular file")
            is_read_only = bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)
            if reason := distrust(info, read_only=is_read_only):
                raise ApplyError(f"{path}: the secret {reason}")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(_CAP_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise ApplyError(f"{path}: the secret cannot be read: {exc.strerror}") from exc
    if len(data) > _CAP_BYTES:
        raise ApplyError(f"{path}: more than {_CAP_BYTES} bytes are too many for a secret")
    try:
        return data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        # Not chained: the cause carries the bytes.
        raise ApplyError(f"{path}: the secret is not UTF-8") from None


def secret_path(snapshot: Snapshot, secret: Secret) -> Path:
    """The file that holds a secret.

    Raises:
        ApplyError: systemd gave us no credentials.
    """
    if secret.file is not None:
        return snapshot.resolve(secret.file)
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise ApplyError(
            f'secret "{secret.secret}": $CREDENTIALS_DIRECTORY is not set; start the daemon '
            "by systemd with LoadCredential=, or use file: PATH"
        )
    return Path(directory) / (secret.secret or "")


def is_open_to_all(snapshot: Snapshot, secret: Secret) -> bool:
    """Whether every user of the device can read a secret that is named by its file."""
    if secret.file is None:
        return False
    try:
        return bool(snapshot.resolve(secret.file).stat().st_mode & stat.S_IROTH)
    except OSError:
        return False
