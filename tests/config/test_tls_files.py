"""Files of TLS that cannot be used are told before anything listens; old ones are a warning."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from edged.config.listen import GrpcConfig, HttpConfig, ListenConfig, ListenTlsConfig
from edged.config.load import check_files, load
from edged.config.tls_files import tls_file_problems, tls_sections, tls_warnings
from tests.fakes.certificates import Authority
from tests.verdicts import check_config

NOW = datetime.now(timezone.utc)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


@pytest.fixture
def tls(authority: Authority) -> ListenTlsConfig:
    return authority.listens()


def test_every_listener_that_has_some(tls: ListenTlsConfig) -> None:
    assert list(tls_sections(ListenConfig())) == []
    http, grpc = HttpConfig(port=1, tls=tls), GrpcConfig(port=2, tls=tls)
    assert list(tls_sections(ListenConfig(http=http, grpc=grpc))) == [("http", tls), ("grpc", tls)]
    assert list(tls_sections(ListenConfig(http=HttpConfig(port=1), grpc=grpc))) == [("grpc", tls)]


def test_good_files(tls: ListenTlsConfig) -> None:
    assert list(tls_file_problems(tls)) == []
    assert list(tls_warnings(tls, NOW)) == []
    Path(tls.key).chmod(0o640)
    assert list(tls_file_problems(tls)) == []


def missing(tls: ListenTlsConfig) -> None:
    Path(tls.cert).unlink()


def folder(tls: ListenTlsConfig) -> None:
    Path(tls.client_ca).unlink()
    Path(tls.client_ca).mkdir()


def readable(tls: ListenTlsConfig) -> None:
    Path(tls.key).chmod(0o644)


def writable(tls: ListenTlsConfig) -> None:
    Path(tls.key).chmod(0o660)


def garbage_cert(tls: ListenTlsConfig) -> None:
    Path(tls.cert).write_text("certainly")


def garbage_ca(tls: ListenTlsConfig) -> None:
    Path(tls.client_ca).write_bytes(b"\0" * 100)


def garbage_key(tls: ListenTlsConfig) -> None:
    Path(tls.key).write_text("none")


def large(tls: ListenTlsConfig) -> None:
    Path(tls.cert).write_bytes(b"#" * (1 << 20) + Path(tls.cert).read_bytes())


def locked(tls: ListenTlsConfig) -> None:
    path = Path(tls.key)
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))


def other_key(tls: ListenTlsConfig) -> None:
    Path(tls.key).write_bytes(
        Authority(Path(tls.key).parent, "other").signs("somebody").key.read_bytes()
    )


@pytest.mark.parametrize(
    ("spoil", "field", "text"),
    [
        (missing, "cert", "no such file"),
        (folder, "client_ca", "no regular file"),
        (readable, "key", "0644"),
        (writable, "key", "0660"),
        (garbage_cert, "cert", "holds no certificates"),
        (garbage_ca, "client_ca", "holds no certificates"),
        (garbage_key, "key", "holds no private key"),
        (large, "cert", "more than"),
        (locked, "key", "wants a password"),
        (other_key, "key", "not the key of the first certificate"),
    ],
)
def test_what_cannot_work(
    tls: ListenTlsConfig, spoil: Callable[[ListenTlsConfig], None], field: str, text: str
) -> None:
    spoil(tls)
    ((name, said),) = tls_file_problems(tls)
    assert name == field
    assert text in said
    assert getattr(tls, field) in said


@pytest.mark.parametrize(
    ("days", "text"),
    [((-9, -1), "has expired on"), ((2, 9), "is not valid before"), ((-9, 9), "expires on")],
)
def test_what_is_out_of_date(authority: Authority, days: tuple, text: str) -> None:
    tls = authority.listens(authority.signs("old", *days))
    assert list(tls_file_problems(tls)) == []
    ((name, said),) = tls_warnings(tls, NOW)
    assert name == "cert"
    assert text in said
    assert "CN=old" in said


def test_an_authority_is_looked_at_too(tls: ListenTlsConfig) -> None:
    found = dict(tls_warnings(tls, NOW + timedelta(days=4000)))
    assert "has expired" in found["client_ca"]


def test_nothing_is_said_twice_of_what_cannot_be_read(tls: ListenTlsConfig) -> None:
    missing(tls)
    assert list(tls_warnings(tls, NOW)) == []


def written(folder: Path, more: str = "") -> Path:
    path = folder / "edged.yaml"
    path.write_text(
        f"state_dir: {folder}/state\n"
        "listen:\n"
        f"  socket: {{path: {folder}/s}}\n"
        "  http:\n"
        "    port: 8443\n"
        "    host: 0.0.0.0\n"
        "    tls:\n"
        "      cert: tls/server.cert.pem\n"
        "      key: tls/server.key.pem\n"
        "      client_ca: tls/authority.pem\n" + more
    )
    return path


def test_the_place_in_the_file(tmp_path: Path, authority: Authority) -> None:
    """Paths are relative to the configuration, as all are."""
    pair = authority.signs("server")
    path = written(tmp_path)
    assert check_files(load(path)) == []
    assert check_config(path, with_files=True)[0] == []
    pair.key.chmod(0o604)
    ((said,), _) = check_config(path, with_files=True)
    assert "edged.yaml:9:" in said
    assert "listen.http.tls.key" in said
    assert "0604" in said


def test_what_expires_is_a_warning(tmp_path: Path, authority: Authority) -> None:
    authority.signs("server", ends_days=3)
    problems, summary = check_config(written(tmp_path), with_files=True)
    assert problems == []
    assert "warning: " in summary
    assert "edged.yaml:8:" in summary
