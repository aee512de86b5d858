"""TLS to a broker, by files good and bad."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path
from typing import Any

import pytest

from edged.broker.options import session_options
from edged.config.broker import TlsConfig
from edged.config.mqtt import MqttConfig
from edged.errors import ApplyError
from tests.broker.test_link import make_certificate, snapshot


class TestTls:
    def options(self, root: Path, **tls: str) -> Any:
        mqtt = MqttConfig(tls=TlsConfig(**tls))
        return session_options(snapshot(root, mqtt), mqtt)

    def refused(self, root: Path, **tls: str) -> str:
        with pytest.raises(ApplyError) as caught:
            self.options(root, **tls)
        return caught.value.message

    def test_good(self, tmp_path: Path) -> None:
        make_certificate(tmp_path, "a")
        assert self.options(tmp_path, ca="a.crt", cert="a.crt", key="a.key").tls is not None
        assert self.options(tmp_path).tls.check_hostname

    def test_names_for_alpn(self, tmp_path: Path) -> None:
        """One port for several protocols, as AWS IoT has 443."""
        make_certificate(tmp_path, "a")
        mqtt = MqttConfig(tls=TlsConfig(ca=Path("a.crt"), alpn=("mqtt", "x-amzn-mqtt-ca")))
        ours = session_options(snapshot(tmp_path, mqtt), mqtt).tls
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.load_cert_chain(tmp_path / "a.crt", tmp_path / "a.key")
        theirs.set_alpn_protocols(["http/1.1", "mqtt"])
        assert ours is not None
        ours.check_hostname = False
        to_us, to_them = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = ours.wrap_bio(to_us, to_them)
        server = theirs.wrap_bio(to_them, to_us, server_side=True)
        for side in (client, server, client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
        assert client.selected_alpn_protocol() == server.selected_alpn_protocol() == "mqtt"

    def test_the_file_is_named(self, tmp_path: Path) -> None:
        make_certificate(tmp_path, "a")
        make_certificate(tmp_path, "b")
        (tmp_path / "bad").write_text("not PEM")
        said = self.refused(tmp_path, ca="none.crt")
        assert (
            said == f"mqtt.tls.ca: {tmp_path}/none.crt: cannot be used: No such file or directory"
        )
        assert self.refused(tmp_path, ca="bad").startswith(f"mqtt.tls.ca: {tmp_path}/bad: ")
        for cert, key in (
            ("none", "a.key"),
            ("bad", "a.key"),
            ("a.crt", "bad"),
            ("a.crt", "b.key"),
        ):
            said = self.refused(tmp_path, cert=cert, key=key)
            assert said.startswith(f"mqtt.tls.cert: {tmp_path}/{cert} with key {tmp_path}/{key}: ")

    def test_an_encrypted_key_is_not_asked_for_on_the_terminal(self, tmp_path: Path) -> None:
        make_certificate(tmp_path, "a", b"secret")
        assert "a key that is not encrypted" in self.refused(tmp_path, cert="a.crt", key="a.key")
