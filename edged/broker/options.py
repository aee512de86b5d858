"""What a session with a broker needs to know: names, passwords, certificates, read when it is made.

Decides what is said when a certificate cannot be used; secrets are ``credential.py``'s to read.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from edged.config.broker import BrokerConfig
from edged.config.identity import base_topic, client_id
from edged.config.load import Snapshot
from edged.config.mqtt import MqttConfig
from edged.credential import read_secret
from edged.errors import ApplyError

if TYPE_CHECKING:
    from edged.transports.mqtt.connection import SessionOptions

_PACKET_CAP_BYTES = (256 << 20) + 4
"""The longest that MQTT has."""
_PACKET_MORE_BYTES = 1 << 20
"""For topic and properties."""


def session_options(snapshot: Snapshot, mqtt: MqttConfig, *, speaks: bool = True) -> SessionOptions:
    """What a session needs to know; reads the password and the TLS files.

    Args:
        snapshot: the configuration.
        mqtt: a broker of it.
        speaks: the broker says ``offline`` for the daemon when it vanishes.

    Raises:
        ApplyError: one of them cannot be read.
    """
    from edged.transports.mqtt.connection import SessionOptions  # noqa: PLC0415 - only if used

    password, tls = _login(snapshot, mqtt, "mqtt")
    return SessionOptions(
        client_id=client_id(snapshot.config),
        base=base_topic(snapshot.config),
        host=mqtt.host,
        port=mqtt.port,
        protocol=mqtt.protocol,
        username=mqtt.username,
        password=password,
        tls=tls,
        websocket=mqtt.websocket,
        keepalive_s=mqtt.keepalive.seconds,
        longest_pause_s=mqtt.longest_pause.seconds,
        session_expiry_s=int(mqtt.session_expiry.seconds),
        max_inflight=mqtt.max_inflight,
        max_packet_bytes=_most_bytes(int(snapshot.config.limits.max_request)),
        most_sent_bytes=_stated(mqtt),
        has_will=speaks,
        renew=partial(_login, snapshot, mqtt, "mqtt"),
    )


def _most_bytes(max_request: int) -> int:
    """The longest packet a broker is told to send us.

    Well above the longest request that is answered: what lies between ends as a dead letter, while
    a broker drops what is longer still without a word to anyone.
    """
    return min(_PACKET_CAP_BYTES, 2 * max_request + _PACKET_MORE_BYTES)


def results_options(
    snapshot: Snapshot, mqtt: MqttConfig, first: SessionOptions
) -> SessionOptions | None:
    """What the session for results needs to know; None where they stay with the first broker.

    Raises:
        ApplyError: the password or a TLS file cannot be read.
    """
    results = mqtt.results
    if results is None:
        return None
    password, tls = _login(snapshot, results, "mqtt.results")
    return replace(
        first,
        client_id=results.client_id or f"{first.client_id}-results"[:64],
        host=results.host,
        port=results.port,
        protocol=results.protocol,
        username=results.username,
        password=password,
        tls=tls,
        websocket=results.websocket,
        keepalive_s=results.keepalive.seconds,
        longest_pause_s=results.longest_pause.seconds,
        session_expiry_s=0,  # it subscribes to nothing, and the outbox is its memory
        max_inflight=results.max_inflight,
        max_packet_bytes=None,
        most_sent_bytes=_stated(results),
        renew=partial(_login, snapshot, results, "mqtt.results"),
    )


def _stated(broker: BrokerConfig) -> int | None:
    return None if broker.max_packet_size is None else int(broker.max_packet_size)


def _login(
    snapshot: Snapshot, broker: BrokerConfig, path: str
) -> tuple[str | None, ssl.SSLContext | None]:
    """Password and certificates, as their files say now; raises ApplyError."""
    password = read_secret(snapshot, broker.password) if broker.password is not None else None
    return password, _tls_context(snapshot, broker, f"{path}.tls")


def _tls_context(snapshot: Snapshot, broker: BrokerConfig, where: str) -> ssl.SSLContext | None:
    tls = broker.tls
    if tls is None:
        return None
    ca, cert, key = (
        str(snapshot.resolve(path)) if path is not None else None
        for path in (tls.ca, tls.cert, tls.key)
    )
    step = f"{where}.ca: {ca}"
    try:
        context = ssl.create_default_context(cafile=ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.alpn:
            context.set_alpn_protocols(list(tls.alpn))
        if cert is not None:
            step = f"{where}.cert: {cert} with key {key}"
            # Without a password OpenSSL would ask for one on the terminal, and wait.
            context.load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else None
        hint = "; expected PEM, and a key that is not encrypted" if "PEM" in str(exc) else ""
        raise ApplyError(f"{step}: cannot be used: {reason or exc}{hint}") from exc
    return context


def tls_digest(snapshot: Snapshot, mqtt: MqttConfig) -> bytes:
    """What changes with the contents of the certificates."""
    digest = hashlib.sha256()
    for name, path in mqtt.files():
        if not name.endswith("password.file"):
            with contextlib.suppress(OSError):
                digest.update(snapshot.resolve(path).read_bytes() + b"\0")
    return digest.digest()
