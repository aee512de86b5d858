"""Ed25519 keys: made, read from files and from text, and looked at before they are believed.

Decides whether a key is one under which only its owner can sign. Never takes one from a bundle and
never reads a path that a bundle names: keys come from the operator alone.
The package ``cryptography`` takes 7 MB, so it is imported when a key is first read or made.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from edged.errors import SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    PrivateKey = Ed25519PrivateKey
    PublicKey = Ed25519PublicKey

_KEY_FILE_CAP_BYTES = 16 << 10
_KEY_BYTES = 32

_P = 2**255 - 19
# The order-8 points; with 0 (order 4), 1 (the identity) and -1 (order 2) these are the only y
# coordinates of small order. Such a "key" accepts forged signatures over any message.
_Y8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER_Y = frozenset({0, 1, _P - 1, _Y8, _P - _Y8})


def key_id(public_key: Ed25519PublicKey) -> str:
    """The name of a key: SHA-256, in hex, of its 32 raw bytes."""
    return hashlib.sha256(public_key.public_bytes_raw()).hexdigest()


def check_key(public_key: Ed25519PublicKey, where: str) -> None:
    """Refuse keys under which anybody can forge.

    Raises:
        SignatureError: a point of small order, or one that is not written in its one valid form.
    """
    y = int.from_bytes(public_key.public_bytes_raw(), "little") & (2**255 - 1)
    if y >= _P or y in _SMALL_ORDER_Y:
        raise SignatureError(
            f"{where}: this is a weak Ed25519 key (small-order or non-canonical point) that would "
            "accept forged signatures; make a new one with edged-convert keygen"
        )


def generate_key(path_prefix: Path | str) -> tuple[Path, Path]:
    """Make a key pair: ``PREFIX.key`` (private, mode 0600) and ``PREFIX.pub``.

    Returns:
        The two paths.

    Raises:
        SignatureError: one of the files exists already, or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

    private_path, public_path = Path(f"{path_prefix}.key"), Path(f"{path_prefix}.pub")
    for path in (private_path, public_path):
        if os.path.lexists(path):
            raise SignatureError(f"{path} exists already; keys are never overwritten")
    key = ed25519.Ed25519PrivateKey.generate()
    private_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public_pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write_new(private_path, private_pem, 0o600)
    _write_new(public_path, public_pem, 0o644)
    return private_path, public_path


def read_private_key(path: Path | str) -> Ed25519PrivateKey:
    """A private key in PKCS8 PEM form.

    Raises:
        SignatureError: unreadable, open to other users, or not an Ed25519 private key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

    data = _read_key_file(Path(path), is_private=True)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise SignatureError(f"{path}: not an unencrypted PKCS8 PEM private key") from exc
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise SignatureError(f"{path}: expected an Ed25519 private key, found another kind")
    return key


def read_public_key(path: Path | str) -> Ed25519PublicKey:
    """A public key in PEM form.

    Raises:
        SignatureError: unreadable, not an Ed25519 public key, or a weak one.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

    data = _read_key_file(Path(path), is_private=False)
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        what = "a private key, to be kept elsewhere" if b"PRIVATE KEY" in data else "no public key"
        raise SignatureError(f"{path}: {what}; expected a .pub file (PEM)") from exc
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise SignatureError(f"{path}: expected an Ed25519 public key, found another kind")
    check_key(key, str(path))
    return key


def key_from_text(text: str, where: str) -> Ed25519PublicKey:
    """A public key of its 32 bytes in base64; raises SignatureError for none, or a weak one."""
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - as above

    key = ed25519.Ed25519PublicKey.from_public_bytes(raw_bytes(text, _KEY_BYTES))
    check_key(key, where)
    return key


def raw_bytes(text: str, size: int) -> bytes:
    """What base64 stands for.

    Raises:
        SignatureError: it is none, or of another size.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise SignatureError("a key or signature is not valid base64") from exc
    if base64.b64encode(raw).decode("ascii") != text:
        # Bits behind the last byte: one key could be listed twice under two texts.
        raise SignatureError("a key or signature is not in the one form that base64 has for it")
    if len(raw) != size:
        raise SignatureError(f"a key or signature has {len(raw)} bytes; Ed25519 has {size}")
    return raw


def fits(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether a key made a signature over these bytes."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - as above

    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _read_key_file(path: Path, *, is_private: bool) -> bytes:
    try:
        # O_NONBLOCK: a pipe by that name would keep us waiting.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode):
                raise SignatureError(f"{path}: cannot read the key: not a file")
            if is_private and stat.S_IMODE(mode) & 0o077:
                raise SignatureError(
                    f"{path}: a private key must not be open to other users; run chmod 600 on it"
                )
            return file.read(_KEY_FILE_CAP_BYTES)
    except OSError as exc:
        raise SignatureError(f"{path}: cannot read the key: {exc.strerror}") from exc


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        fd = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode
        )
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise SignatureError(f"{path}: cannot write the key: {exc.strerror}") from exc
