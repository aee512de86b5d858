"""TLS of a listener: what every client has to prove, and how many may be about to.

Decides the protocol's settings and its bounds; one connection is ``tls_peer``'s. What serves on top
gives its ALPN names (``http/1.1``, ``h2``) and is told who the client is by its transport's
``get_extra_info("peercert")``, as asyncio's own says it.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from edged.access.policy import NAMELESS
from edged.errors import ApplyError

if TYPE_CHECKING:
    from edged.config.listen import ListenTlsConfig
    from edged.transports.tls_peer import TlsPeer

HANDSHAKES: Final = 64
"""Connections that have not proven who they are; each may cost a signature, a millisecond of the
loop. Whoever comes beyond is cut off at once and comes again."""
_MINIMUM: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_KINDS: Final = ("URI:", "DNS:")
"""Of the other names that stand for a client where there is no common name, the better first."""
_ORIGIN_CHARACTERS: Final = 64
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: those with forward secrecy and authenticated encryption; 1.3 has no others."""


def server_context(
    field: str, tls: ListenTlsConfig, protocols: Sequence[str] = ("http/1.1",)
) -> ssl.SSLContext:
    """What new connections are held to; the files are read now.

    Args:
        field: where in the configuration it stands.
        tls: paths that are absolute by now.
        protocols: for ALPN, the preferred first.

    Raises:
        ApplyError: a file cannot be used; says which, and what was expected.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _MINIMUM[tls.minimum]
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0  # a session resumed would not show its certificate again
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(list(protocols))
    try:
        # A password would be asked for on a terminal, which a daemon has not.
        context.load_cert_chain(tls.cert, tls.key, password=lambda: b"")
    except (OSError, ValueError) as exc:
        why = _words(exc)
        raise ApplyError(f"{field}: {tls.cert} and {tls.key} cannot be used: {why}") from exc
    try:
        context.load_verify_locations(tls.client_ca)
    except (OSError, ValueError) as exc:
        why = _words(exc)
        raise ApplyError(f"{field}.client_ca: {tls.client_ca} cannot be used: {why}") from exc
    return context


def _words(exc: Exception) -> str:
    reason = getattr(exc, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    if isinstance(exc, ssl.SSLError):
        return "expected PEM, the key without a password" + (f" ({reason})" if reason else "")
    return getattr(exc, "strerror", None) or str(exc)


class TlsGate:
    """What new connections of one listener are held to; changed by a reload.

    Those that are open keep what they began with.
    """

    def __init__(self) -> None:
        self.context: ssl.SSLContext | None = None
        """None while the listener speaks plain."""
        self.handshake_s = 10.0
        self.handshakes: set[TlsPeer] = set()
        self.failed = self.refused = 0
        """Handshakes that came to nothing, and connections that were cut off before one."""

    def close(self) -> None:
        """End whoever has not proven yet who it is."""
        for peer in list(self.handshakes):
            peer.abort()


def common_name(certificate: Mapping[str, Any] | None) -> str:
    """The last common name of a subject, as ``getpeercert`` says it; empty for none."""
    subject: Iterable[Iterable[tuple[str, str]]] = (certificate or {}).get("subject", ())
    found = [value for part in subject for name, value in part if name == "commonName"]
    return found[-1] if found else ""


def alternative_names(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Its other names as ``DNS:camera-3``, ``URI:spiffe://…``, ``email:…``."""
    names: Iterable[tuple[str, str]] = (certificate or {}).get("subjectAltName", ())
    return tuple(f"{kind}:{value}" for kind, value in names)


def certificate_name(certificate: Mapping[str, Any] | None) -> str:
    """The one name that rules, logs and sequences know the holder of a certificate by.

    The common name; without one the first URI among the other names, and else the first DNS name.
    With its kind in front, so that a host ``ops`` is never taken for whom an authority calls
    ``ops``; a common name that looks like one of the others names nobody.

    Args:
        certificate: as ``getpeercert`` says it, verified; None where none was asked for.

    Returns:
        The name; NAMELESS for a certificate that has none of them, empty for no certificate.
    """
    if certificate is None:
        return ""
    name = common_name(certificate)
    if not name:
        others = alternative_names(certificate)
        name = next((one for kind in _KINDS for one in others if one.startswith(kind)), "")
    elif name.startswith(_KINDS):
        name = ""
    # What cannot be written into a line of a rule or a log is nobody's name.
    return name if name.isprintable() and name else NAMELESS


def certificate_origin(carrier: str, name: str) -> str:
    """Who asks, for logs and sequences: two long names that begin alike are two clients."""
    if len(name) > _ORIGIN_CHARACTERS:
        digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:16]
        name = f"{name[: _ORIGIN_CHARACTERS - 17]}#{digest}"
    return f"{carrier}:{name}"
