"""What a listener's TLS is held to, and the words when its files cannot be used."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from edged.access.policy import NAMELESS
from edged.errors import ApplyError
from edged.transports.tls import (
    alternative_names,
    certificate_name,
    certificate_origin,
    common_name,
    server_context,
)
from tests.fakes.certificates import Authority

SHOWN = {
    "subject": ((("organizationName", "plant"),), (("commonName", "camera-3"),)),
    "subjectAltName": (("DNS", "camera-3.local"), ("URI", "spiffe://plant/camera-3")),
}


def test_the_settings(tmp_path: Path) -> None:
    context = server_context("listen.http.tls", Authority(tmp_path).listens(minimum="1.3"))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.num_tickets == 0
    old = [one["name"] for one in context.get_ciphers() if one["protocol"] == "TLSv1.2"]
    assert old
    assert all(name.startswith("ECDHE") for name in old)


@pytest.mark.parametrize(
    ("name", "text"),
    [("cert", "server.cert.pem"), ("key", "expected PEM"), ("client_ca", "tls.client_ca: ")],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, text: str) -> None:
    tls = Authority(tmp_path).listens()
    Path(getattr(tls, name)).write_text("nothing")
    with pytest.raises(ApplyError, match="tls") as caught:
        server_context("listen.http.tls", tls)
    assert text in caught.value.message


def test_a_missing_file(tmp_path: Path) -> None:
    tls = Authority(tmp_path).listens()
    Path(tls.cert).unlink()
    with pytest.raises(ApplyError, match="No such file"):
        server_context("listen.http.tls", tls)


def test_a_key_of_another(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = authority.listens(key=str(authority.signs("other").key))
    with pytest.raises(ApplyError, match="the key is not that of the certificate"):
        server_context("listen.http.tls", tls)


def test_a_key_with_a_password_asks_nobody(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    tls = Authority(tmp_path).listens()
    key = serialization.load_pem_private_key(Path(tls.key).read_bytes(), None)
    form, secret = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"1234")
    Path(tls.key).write_bytes(key.private_bytes(serialization.Encoding.PEM, form, secret))
    with pytest.raises(ApplyError, match="without a password"):
        server_context("listen.http.tls", tls)


def test_who_a_certificate_names() -> None:
    assert common_name(SHOWN) == "camera-3"
    assert alternative_names(SHOWN) == ("DNS:camera-3.local", "URI:spiffe://plant/camera-3")
    assert common_name(None) == common_name({}) == ""
    assert alternative_names({}) == ()


NO_SUBJECT = {"subject": ()}
DNS, URI, MAIL = ("DNS", "camera-3"), ("URI", "spiffe://plant/camera-3"), ("email", "a@b")


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        (None, ""),
        (SHOWN, "camera-3"),
        ({**NO_SUBJECT, "subjectAltName": (DNS, URI)}, "URI:spiffe://plant/camera-3"),
        ({**NO_SUBJECT, "subjectAltName": (MAIL, DNS, ("DNS", "other"))}, "DNS:camera-3"),
        ({**NO_SUBJECT, "subjectAltName": (MAIL, ("IP Address", "10.0.0.1"))}, NAMELESS),
        ({}, NAMELESS),
        # A common name that looks like another kind of name must not pass for it.
        ({"subject": ((("commonName", "DNS:camera-3"),),), "subjectAltName": (URI,)}, NAMELESS),
        ({**NO_SUBJECT, "subjectAltName": (("URI", "spiffe://plant/a\nallowed"),)}, NAMELESS),
    ],
)
def test_the_one_name_of_a_client(certificate: dict[str, Any] | None, name: str) -> None:
    assert certificate_name(certificate) == name


def test_long_names_that_begin_alike_are_two_clients() -> None:
    one, other = (certificate_origin("http", f"URI:spiffe://{'x' * 99}/{end}") for end in "ab")
    assert one != other
    assert len(one) == len(other) == len("http:") + 64
    assert certificate_origin("http", "camera-3") == "http:camera-3"
