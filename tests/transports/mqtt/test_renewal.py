"""Passwords and certificates that are replaced while the broker is away, before a real one."""

from __future__ import annotations

import asyncio
import datetime as dt
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edged.broker.options import session_options
from edged.config.broker import Secret, TlsConfig
from edged.config.mqtt import MqttConfig
from edged.errors import ApplyError
from edged.protocol.broker_session import BrokerSession, Connected, Disconnected, SessionEvent
from edged.specs import Duration
from edged.transports.mqtt.clients import open_session
from edged.transports.mqtt.connection import SessionOptions
from edged.transports.mqtt.renewal import renewed
from tests.broker.test_link import snapshot
from tests.fakes.broker import Mosquitto
from tests.transports.conftest import until


def test_what_cannot_be_read_is_used_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    def renew() -> tuple[None, None]:
        raise ApplyError("/run/pw: the secret cannot be read")

    options = SessionOptions("n", "edged/n", password="old", renew=renew)
    assert renewed(options) is options
    assert "cannot be read; what was read before is used" in caplog.text
    again = renewed(replace(options, renew=lambda: ("new", None)))
    assert (again.password, again.client_id) == ("new", "n")


class Watch:
    """A session, and what it said."""

    def __init__(self, options: SessionOptions, client: str) -> None:
        self.events: list[SessionEvent] = []
        self.session: BrokerSession = open_session(options, client)

    async def __aenter__(self) -> Watch:  # noqa: PYI034 - typing.Self is 3.11
        self.session.start(asyncio.get_running_loop(), self.events.append)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.stop(5)

    def count(self, kind: type[Any]) -> int:
        return sum(isinstance(event, kind) for event in self.events)


def set_password(root: Path, password: str) -> None:
    (root / "passwords").unlink(missing_ok=True)
    command = ["mosquitto_passwd", "-c", "-b", str(root / "passwords"), "u", password]
    subprocess.run(command, check=True, capture_output=True)
    (root / "passwords").chmod(0o600)


class Authority:
    """Signs a certificate for whoever asks."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.key = root, ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.write(f"{name}.crt", self.signed(self.name, self.key, is_ca=True))

    def write(self, name: str, certificate: x509.Certificate) -> None:
        data = certificate.public_bytes(serialization.Encoding.PEM)
        (self.root / name).write_bytes(data)

    def signed(self, subject: x509.Name, key: Any, *, is_ca: bool = False) -> x509.Certificate:
        now = dt.datetime.now(dt.timezone.utc)
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        # Python 3.13 asks for these, as RFC 5280 does.
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        usage = x509.KeyUsage(
            digital_signature=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, key_cert_sign=is_ca, crl_sign=is_ca,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .add_extension(issuer, critical=False)
            .add_extension(own, critical=False)
            .add_extension(usage, critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def give(self, name: str) -> None:
        """NAME.crt and NAME.key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        self.write(f"{name}.crt", self.signed(subject, key))
        form = serialization.PrivateFormat.PKCS8
        (self.root / f"{name}.key").write_bytes(
            key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        )


async def comes_back(
    options: SessionOptions, client: str, broker: Mosquitto, rotate: Callable[[], None]
) -> None:
    """Connected, then everything is replaced while the broker is down, then connected again.

    A session that reads nothing again stays outside: that is the control.
    """
    async with (
        Watch(options, client) as ours,
        Watch(replace(options, client_id="other", renew=None), client) as control,
    ):
        await until(lambda: ours.count(Connected) == control.count(Connected) == 1)
        broker.stop()
        await until(lambda: ours.count(Disconnected) and control.count(Disconnected))
        rotate()
        broker.start()
        await until(lambda: ours.count(Connected) == 2, 60)
        before = control.count(Disconnected)
        await until(lambda: control.count(Disconnected) > before + 1, 60)
        assert control.count(Connected) == 1
        assert options.tls or "let us in" in control.session.stats()["last_error"]


@pytest.mark.broker
@pytest.mark.parametrize("client", ["native", "paho"])
def test_a_password_that_changed_while_the_broker_was_away(tmp_path: Path, client: str) -> None:
    set_password(tmp_path, "first")
    (tmp_path / "pw").write_text("first")
    mosquitto = Mosquitto(
        tmp_path, f"password_file {tmp_path}/passwords", anonymous=False, persistent=True
    )

    def rotate() -> None:
        set_password(tmp_path, "second")
        (tmp_path / "pw").write_text("second")

    with mosquitto as broker:
        mqtt = MqttConfig(
            host="127.0.0.1", port=broker.port, username="u", password=Secret(file="pw"),
            longest_pause=Duration(10**9),
        )  # fmt: skip
        options = session_options(snapshot(tmp_path, mqtt), mqtt)
        asyncio.run(comes_back(options, client, broker, rotate))


@pytest.mark.broker
# paho leaves a socket open whose handshake failed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("client", ["native", "paho"])
def test_certificates_that_were_replaced_while_the_broker_was_away(
    tmp_path: Path, client: str
) -> None:
    """Authority and all: the broker trusts the new one only, and we are shown one of it."""

    def rotate() -> None:
        authority = Authority(tmp_path, "ca")
        authority.give("server"), authority.give("client")

    rotate()
    listener = (
        f"cafile {tmp_path}/ca.crt\ncertfile {tmp_path}/server.crt\n"
        f"keyfile {tmp_path}/server.key\nrequire_certificate true"
    )
    with Mosquitto(tmp_path, listener=listener, persistent=True) as broker:
        tls = TlsConfig(ca="ca.crt", cert="client.crt", key="client.key")
        mqtt = MqttConfig(
            host="localhost", port=broker.port, tls=tls, longest_pause=Duration(10**9)
        )
        options = session_options(snapshot(tmp_path, mqtt), mqtt)
        asyncio.run(comes_back(options, client, broker, rotate))
