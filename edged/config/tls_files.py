"""Whether the files of a listener's TLS can be used, before anything listens with them.

What cannot work is a problem; what is only out of date is a warning, for a device's clock may be
the one that is wrong, and what serves goes on.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from edged.config.listen import ListenConfig, ListenTlsConfig

Found = tuple[str, str]
"""A field below the section, and what is wrong there."""
TLS_FILES = ("cert", "key", "client_ca")
_FILE_CAP_BYTES = 1 << 20
"""A whole system's list of authorities has a quarter of it."""
SOON = timedelta(days=14)
"""Long enough to send somebody."""


def tls_sections(listen: ListenConfig) -> Iterator[tuple[str, ListenTlsConfig]]:
    """Every listener that speaks TLS: its name in the section, and what it has."""
    for name, web in (("http", listen.http), ("grpc", listen.grpc)):
        if web is not None and web.tls is not None:
            yield name, web.tls


def tls_file_problems(tls: ListenTlsConfig) -> Iterator[Found]:
    """What stands in the way.

    Args:
        tls: with absolute paths.
    """
    found = {}
    for name in TLS_FILES:
        path = Path(getattr(tls, name))
        try:
            found[name] = _read(path)
        except (OSError, ValueError) as exc:
            yield name, f"cannot read {path}: {getattr(exc, 'strerror', None) or exc}"
    if (mode := _mode(tls.key)) & 0o027:
        yield (
            "key",
            f"{tls.key} has the mode {mode:04o}, chmod 0640 or less",
        )
    if len(found) == len(TLS_FILES):
        yield from _content_problems(tls, found)


def _content_problems(tls: ListenTlsConfig, found: dict[str, bytes]) -> Iterator[Found]:
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415
    from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415 - where TLS is on

    certificates = []
    for name in ("cert", "client_ca"):
        try:
            certificates.append(load_pem_x509_certificates(found[name]))
        except ValueError:
            yield name, f"{getattr(tls, name)} holds no certificates; expected PEM"
    try:
        key = form.load_pem_private_key(found["key"], None)
    except TypeError:
        yield "key", f"{tls.key} wants a password; nobody is there to type it: save it without"
        return
    except ValueError:
        yield "key", f"{tls.key} holds no private key; expected PEM"
        return
    if len(certificates) < 2:
        return
    public = (form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
    ours = certificates[0][0].public_key().public_bytes(*public)
    if ours != key.public_key().public_bytes(*public):
        yield "key", f"{tls.key} is not the key of the first certificate in {tls.cert}"


def tls_warnings(tls: ListenTlsConfig, now: datetime) -> Iterator[Found]:
    """What is, or soon will be, out of date; nothing of files that cannot be read.

    Args:
        tls: with absolute paths.
        now: with its zone.
    """
    from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415 - where TLS is on

    for name in ("cert", "client_ca"):
        path = Path(getattr(tls, name))
        try:
            certificates = load_pem_x509_certificates(_read(path))
        except (OSError, ValueError):
            continue
        for one in certificates:
            who = one.subject.rfc4514_string()[:128]
            begins, ends = one.not_valid_before_utc, one.not_valid_after_utc
            if now < begins:
                yield name, f"{path}: {who} is not valid before {begins:%Y-%m-%d %H:%M} UTC"
            elif now > ends:
                yield name, f"{path}: {who} has expired on {ends:%Y-%m-%d %H:%M} UTC"
            elif ends - now < SOON:
                yield name, f"{path}: {who} expires on {ends:%Y-%m-%d %H:%M} UTC"


def _read(path: Path) -> bytes:
    if not path.is_file():
        # Opening a pipe would wait for its other end.
        raise ValueError("there is no regular file" if path.exists() else "there is no such file")
    with path.open("rb") as file:
        data = file.read(_FILE_CAP_BYTES + 1)
    if len(data) > _FILE_CAP_BYTES:
        raise ValueError(f"it has more than {_FILE_CAP_BYTES} bytes")
    return data


def _mode(path: str) -> int:
    try:
        return stat.S_IMODE(Path(path).stat().st_mode)
    except OSError:
        return 0
