"""The broker's side: secrets, certificates, and one session at a time on a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edged.broker.link import BrokerLinks
from edged.broker.options import session_options
from edged.config.binding import BindingConfig
from edged.config.broker import Secret, TlsConfig
from edged.config.load import Snapshot
from edged.config.mqtt import MqttConfig
from edged.config.schema import Config, LimitsConfig
from edged.credential import read_secret
from edged.errors import ApplyError
from edged.protocol.mqtt import DRAINING, OFFLINE
from edged.serving.dataplane import Dataplane
from edged.telemetry.health import Health
from tests.fakes.broker import Device, Mosquitto
from tests.fakes.door import SUM

VALUE = "correct-horse-battery"


def snapshot(root: Path, mqtt: MqttConfig | None) -> Snapshot:
    return Snapshot(Config(node="test", mqtt=mqtt), root, {})


class TestSecrets:
    def read(self, root: Path, content: bytes | None, **secret: Any) -> str:
        if content is not None:
            (root / "pw").write_bytes(content)
        return read_secret(snapshot(root, None), Secret(**(secret or {"file": "pw"})))

    def refused(self, root: Path, content: bytes | None, **secret: Any) -> str:
        with pytest.raises(ApplyError) as caught:
            self.read(root, content, **secret)
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__cause__)
        assert VALUE not in shown
        assert VALUE.encode() not in getattr(caught.value.__cause__, "object", b"")
        return caught.value.message

    @pytest.mark.parametrize("end", ["", "\n", "\r\n"])
    def test_a_file(self, tmp_path: Path, end: str) -> None:
        assert self.read(tmp_path, f" {VALUE} é{end}".encode()) == f" {VALUE} é"

    def test_a_credential(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        assert self.read(tmp_path, VALUE.encode(), secret="pw") == VALUE
        assert str(tmp_path / "none") in self.refused(tmp_path, None, secret="none")
        monkeypatch.delenv("CREDENTIALS_DIRECTORY")
        assert "LoadCredential=" in self.refused(tmp_path, None, secret="pw")

    def test_refused(self, tmp_path: Path) -> None:
        missing = self.refused(tmp_path, None)
        assert missing == f"{tmp_path}/pw: the secret cannot be read: No such file or directory"
        assert "not UTF-8" in self.refused(tmp_path, VALUE.encode() + b"\xff")
        assert "too many" in self.refused(tmp_path, VALUE.encode() * 9999)
        assert "not a regular file" in self.refused(tmp_path, None, file=".")

    def test_an_endless_file_is_not_read_to_its_end(self, tmp_path: Path) -> None:
        assert "not a regular file" in self.refused(tmp_path, None, file="/dev/zero")

    def test_it_is_never_shown(self, tmp_path: Path) -> None:
        (tmp_path / "pw").write_text(VALUE)
        mqtt = MqttConfig(username="u", password=Secret(file="pw"))
        options = session_options(snapshot(tmp_path, mqtt), mqtt)
        assert options.password == VALUE
        assert VALUE not in repr(options)


def test_the_longest_packet_follows_the_longest_request(tmp_path: Path) -> None:
    mqtt = MqttConfig()
    found = session_options(snapshot(tmp_path, mqtt), mqtt).max_packet_bytes
    assert found is not None
    assert found > 2 * int(LimitsConfig().max_request)


def make_certificate(directory: Path, name: str, password: bytes | None = None) -> None:
    """NAME.crt and NAME.key, self-signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / f"{name}.crt").write_bytes(certificate.public_bytes(pem))
    locked = serialization.BestAvailableEncryption(password) if password else None
    (directory / f"{name}.key").write_bytes(
        key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, locked or serialization.NoEncryption()
        )
    )


@pytest.mark.parametrize(
    ("client", "other"), [("paho", "edged.transports.mqtt.native"), ("native", "paho")]
)
def test_only_the_client_that_is_named_is_imported(client: str, other: str) -> None:
    code = (
        "import sys, edged.broker.link\n"
        "from edged.transports.mqtt.clients import open_session\n"
        "from edged.transports.mqtt.connection import SessionOptions\n"
        f"made = open_session(SessionOptions('n', 'edged/n'), {client!r})\n"
        f"sys.exit({other!r} if {other!r} in sys.modules else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_a_broker_nothing_of_mqtt_is_imported() -> None:
    code = (
        "import sys, edged.daemon\n"
        "found = [n for n in sys.modules if n.startswith(('paho', 'edged.transports.mqtt.paho'))]\n"
        "sys.exit(repr(found) if found else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def eventually(what: Callable[[], Any], limit_s: float = 10.0) -> None:
    give_up = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < give_up, "did not happen"
        await asyncio.sleep(0.005)


class Side:
    """BrokerLinks with what it needs, in a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.health = Health()
        self.links = BrokerLinks(Dataplane(), self.health, root)

    async def swap(self, mqtt: MqttConfig | None) -> None:
        shot = snapshot(self.root, mqtt)
        await self.links.swap(shot, self.links.prepare(shot, (), lambda *_: None))

    async def refresh(self, mqtt: MqttConfig) -> None:
        await self.links.refresh(snapshot(self.root, mqtt))

    def is_connected(self) -> bool:
        return (self.links.stats() or {}).get("state") == "connected"

    def session(self) -> Any:
        assert self.links._bindings is not None
        return self.links._bindings.session


@contextlib.asynccontextmanager
async def a_side(root: Path) -> AsyncIterator[Side]:
    side = Side(root)
    try:
        yield side
    finally:
        await side.links.drain(1)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


class FourAtATime(Dataplane):
    def places(self, model: str, release: int | str | None = None) -> int:
        return 4 if model == "sum" else 0


def test_a_binding_that_waits_for_its_model_counts_as_a_fast_one(tmp_path: Path) -> None:
    names = ("sum", "late")
    asked = [
        BindingConfig(name=name, from_=f"{name}/+", to=f"out/{name}", model=name) for name in names
    ]

    async def work() -> None:
        for bindings, places in ((asked[:1], 4), (asked, 64)):
            links = BrokerLinks(FourAtATime(), Health(), tmp_path)
            mqtt = MqttConfig(host="127.0.0.1", port=1)
            config = Config(node="test", mqtt=mqtt, bindings=tuple(bindings))
            shot = Snapshot(config, tmp_path, {})
            await links.swap(shot, links.prepare(shot, asked[:1], lambda *_: SUM))
            assert links._bindings is not None
            session: Any = links._bindings.session
            assert session.options.places(True) == places
            await links.drain(1)

    run(work())


@pytest.mark.broker
class TestSessions:
    @pytest.fixture
    def broker(self, tmp_path: Path) -> Any:
        with Mosquitto(tmp_path) as broker:
            yield broker

    def mqtt(self, broker: Mosquitto, **more: Any) -> MqttConfig:
        return MqttConfig(host="127.0.0.1", port=broker.port, **more)

    def test_the_same_options_keep_the_session(self, tmp_path: Path, broker: Mosquitto) -> None:
        async def work() -> None:
            async with a_side(tmp_path) as side:
                await side.swap(self.mqtt(broker))
                await eventually(side.is_connected)
                session = side.session()
                await side.swap(self.mqtt(broker))
                await side.refresh(self.mqtt(broker))
                assert side.session() is session
                assert side.session().stats()["connections"] == 1

        run(work())

    def test_another_host_hears_us_after_the_first_heard_our_goodbye(
        self, tmp_path: Path, broker: Mosquitto
    ) -> None:
        (tmp_path / "second").mkdir()

        async def work(second: Mosquitto, device: Device) -> None:
            async with a_side(tmp_path) as side:
                await side.swap(self.mqtt(broker))
                await eventually(side.is_connected)
                await side.swap(self.mqtt(second))
                # Its will would be the same words; ours come with a goodbye, so none follows.
                said: list[bytes] = []
                while OFFLINE not in said:
                    said.append((await asyncio.to_thread(device.one)).payload)
                assert DRAINING in said
                await eventually(side.is_connected)
                assert side.links.stats()["broker"].endswith(f":{second.port}")

        with (
            Mosquitto(tmp_path / "second") as second,
            Device(broker, "edged/test/status") as device,
        ):
            run(work(second, device))

    @pytest.mark.hostile("E14 a password that cannot be read while it is changed")
    def test_a_rotated_password(self, tmp_path: Path, broker: Mosquitto) -> None:
        """Unreadable: the old session stays. Readable: a new one. The value is in no message."""
        path = tmp_path / "pw"
        path.write_text(VALUE)
        mqtt = self.mqtt(broker, username="u", password=Secret(file="pw"))

        async def work() -> None:
            async with a_side(tmp_path) as side:
                await side.swap(mqtt)
                await eventually(side.is_connected)
                session = side.session()
                path.write_bytes(VALUE.encode() + b"\xff")
                await side.refresh(mqtt)
                assert "not UTF-8" in side.health.degradations()["mqtt.secret"]
                path.unlink()
                await side.swap(mqtt)
                assert "cannot be read" in side.health.degradations()["mqtt.secret"]
                assert VALUE not in str(side.health.degradations())
                assert side.session() is session
                assert side.is_connected()
                path.write_text("new")
                await side.refresh(mqtt)
                assert side.session() is not session
                assert "mqtt.secret" not in side.health.degradations()
                await eventually(side.is_connected)

        run(work())

    def test_a_secret_that_comes_later(self, tmp_path: Path, broker: Mosquitto) -> None:
        mqtt = self.mqtt(broker, username="u", password=Secret(file="pw"))

        async def work() -> None:
            async with a_side(tmp_path) as side:
                await side.swap(mqtt)
                assert side.links.stats() is None
                assert "mqtt.secret" in side.health.degradations()
                (tmp_path / "pw").write_text(VALUE)
                await side.refresh(mqtt)
                await eventually(side.is_connected)
                assert side.health.degradations() == {}

        run(work())

    def test_the_section_is_removed(self, tmp_path: Path, broker: Mosquitto) -> None:
        mqtt = self.mqtt(broker, username="u", password=Secret(file="none"))

        async def work() -> None:
            async with a_side(tmp_path) as side:
                await side.swap(mqtt)
                assert side.health.degradations()
                await side.swap(None)
                assert side.health.degradations() == {}
                assert (side.links.stats(), side.links.line()) == (None, "")
                await side.swap(self.mqtt(broker))
                await eventually(side.is_connected)
                assert side.links.line() == "mqtt connected"
                await side.swap(None)
                assert side.links.stats() is None

        run(work())

    def test_nothing_begins_after_the_goodbye(self, tmp_path: Path, broker: Mosquitto) -> None:
        async def work() -> None:
            async with a_side(tmp_path) as side:
                await side.links.drain(1)
                await side.swap(self.mqtt(broker))
                assert side.links.stats() is None

        run(work())

    def test_a_broker_that_is_away_is_a_degradation(self, tmp_path: Path) -> None:
        broker = Mosquitto(tmp_path)

        async def work() -> None:
            async with a_side(tmp_path) as side:
                await side.swap(self.mqtt(broker))
                await eventually(lambda: "mqtt" in side.health.degradations())
                with broker:
                    await eventually(side.is_connected)
                    await eventually(lambda: "mqtt" not in side.health.degradations())
                    await side.swap(None)

        run(work())


def test_a_new_certificate_under_the_same_name_is_another_session(tmp_path: Path) -> None:
    """No broker is needed: it is about who would connect."""
    make_certificate(tmp_path, "a")
    mqtt = MqttConfig(host="127.0.0.1", port=1, tls=TlsConfig(ca="a.crt"))

    async def work() -> None:
        async with a_side(tmp_path) as side:
            await side.swap(mqtt)
            session = side.session()
            await side.refresh(mqtt)
            assert side.session() is session
            make_certificate(tmp_path, "a")
            await side.refresh(mqtt)
            assert side.session() is not session

    run(work())
