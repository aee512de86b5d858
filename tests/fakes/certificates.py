"""Certificates as an operator makes them: an authority, and what it has signed."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edged.config.listen import ListenTlsConfig


@dataclass(frozen=True)
class Pair:
    """Files of a certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """Signs for a test; its files lie in ``folder``."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.ca = folder / f"{name}.pem"
        made = self._build(self._name, self._key.public_key(), -1, 3650).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        signed = made.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.ca.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def signs(
        self,
        name: str,
        begins_days: float = -1,
        ends_days: float = 365,
        others: Sequence[x509.GeneralName] | None = None,
    ) -> Pair:
        """A certificate for 127.0.0.1 and ``name``, for both ends of a connection.

        Where ``others`` are given, it has these names alone and no subject.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        if others is not None:
            subject, names = x509.Name([]), list(others)
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        made = (
            self._build(subject, key.public_key(), begins_days, ends_days)
            .add_extension(x509.SubjectAlternativeName(names), critical=others is not None)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pair = Pair(self._folder / f"{name}.cert.pem", self._folder / f"{name}.key.pem")
        pair.cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        pair.key.touch(0o600)
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair

    def listens(self, pair: Pair | None = None, **fields: str) -> ListenTlsConfig:
        """A listener's section, whose clients have certificates of this authority."""
        pair = pair or self.signs("server")
        given = {"cert": str(pair.cert), "key": str(pair.key), "client_ca": str(self.ca)}
        return ListenTlsConfig(**{**given, **fields})

    def context(self, client: Pair | None = None) -> ssl.SSLContext:
        """A client's, that trusts this authority."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if client is not None:
            context.load_cert_chain(client.cert, client.key)
        return context

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, begins: float, ends: float
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + dt.timedelta(days=begins))
            .not_valid_after(now + dt.timedelta(days=ends))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
