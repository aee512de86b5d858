"""A source as its settings describe it, ready to be asked: the one place that knows its kinds."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edged.errors import LoadError
from edged.sources.found import Found

if TYPE_CHECKING:
    from edged.sources.web import Web


@dataclass(frozen=True, slots=True)
class Settings:
    """A source, with what we log in with in plain: never shown, never kept.

    Args:
        kind: ``oci`` or ``mirror``.
        url: where it is.
        login: name and password; None for anonymous.
        token: sent as it is; empty for none.
        token_server: address of another host that may be shown name and password.
        hosts: where else it may send us.
        ca: CA file; None for the system's.
        timeout_s: for connecting, for an answer to begin, for silence in it.
        max_bytes: of one bundle.
        rate: most bytes a second; 0 for no limit.
    """

    kind: str
    url: str
    login: tuple[str, str] | None = None
    token: str = ""
    token_server: str = ""
    hosts: tuple[str, ...] = ()
    ca: str | None = None
    timeout_s: float = 30.0
    max_bytes: int = 1 << 30
    rate: int = 0

    def __repr__(self) -> str:
        return f"Settings({self.kind}, {self.url})"


def open_source(settings: Settings) -> Web:
    """The source's web server.

    Raises:
        LoadError: the library is not installed.
        EdgedError: the settings cannot be used.
    """
    try:
        from edged.sources.web import Web  # noqa: PLC0415
    except ImportError as exc:
        raise LoadError(
            "sources need urllib3, which is not installed or too old; pip install 'edged[sources]'"
        ) from exc
    web = Web(
        url=settings.url,
        authorization=_authorization(settings),
        hosts=settings.hosts,
        ca=settings.ca,
        timeout_s=settings.timeout_s,
    )
    if settings.kind == "oci" and not settings.token:
        from edged.sources.oci import TokenDesk  # noqa: PLC0415

        web.challenge = TokenDesk(web, _authorization(settings), settings.token_server).meet
    return web


def find(web: Web, settings: Settings, name: str, tag: str, digest: str) -> Found:
    """What the source has under a name; see ``oci.find`` and ``mirror.find``."""
    from edged.sources import mirror, oci  # noqa: PLC0415

    if settings.kind == "oci":
        return oci.find(web, name, tag, digest, settings.max_bytes)
    return mirror.find(web, name, tag, digest, settings.max_bytes)


def _authorization(settings: Settings) -> str:
    if settings.token:
        return f"Bearer {settings.token}"
    if settings.login is None:
        return ""
    return "Basic " + base64.b64encode(":".join(settings.login).encode()).decode("ascii")
