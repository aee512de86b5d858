"""The promise before a real broker: answers, faults, and what is lost when one lies."""

import asyncio
import datetime as dt
import json
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edged.config.binding import BindingConfig
from edged.config.discovery import DiscoveryConfig
from edged.config.publish import PublishConfig
from edged.processing.cbor_data import encode_cbor
from edged.specs import Duration, OutputSpec
from edged.transports.bindings.subscriptions import SubscriptionMemory
from edged.transports.mqtt.buffered import BufferedSocket
from edged.transports.mqtt.connection import SessionOptions
from edged.transports.mqtt.paho import PahoConnection, _may_skip_ours
from tests.fakes.broker import Device, Mosquitto, free_port
from tests.fakes.proxy import Proxy
from tests.transports.conftest import VIB, Rig, until

pytestmark = [pytest.mark.broker, pytest.mark.usefixtures("client")]

CONNACK_V311_BAD_VERSION = b"\x20\x02\x00\x01"


def body(number):
    return json.dumps({"a": number, "b": 0})


def run(main):
    asyncio.run(asyncio.wait_for(main, 60))


async def get(device, count=1, timeout_s=15):
    return await asyncio.to_thread(device.get, count, timeout_s)


def sums(messages):
    return [json.loads(message.payload)["sum"] for message in messages]


def users(message):
    return dict(message.properties.UserProperty)


def test_an_answer_with_mqtt_5(broker):
    async def main():
        async with Rig(broker.port) as rig:
            rig.bindings.announce({"version": "0.1.0"}, [{"name": "sum"}])
            with Device(broker, "reply/#", "out/#", "edged/#") as device:
                greeting = await get(device, 4)
                assert {(m.topic, m.payload) for m in greeting} == {
                    ("edged/n/status", b"online"),
                    ("edged/n/info", b'{"version":"0.1.0"}'),
                    ("edged/n/models", b'[{"name":"sum"}]'),
                    ("edged/n/models/sum/state", b"failed"),
                }
                # They have reached the broker; whoever comes now is told what was kept.
                with Device(broker, "edged/#") as late:
                    assert all(m.retain for m in await get(late, 4))
                device.publish("in/hall", body(4))
                (answer,) = await get(device)
                assert answer.topic == "out/hall"
                assert json.loads(answer.payload)["sum"] == 4
                assert answer.properties.ContentType == "application/json"
                assert users(answer) == {
                    "edged-model": "sum",
                    "edged-release": "1",
                    "edged-generation": "7",
                    "edged-status": "OK",
                }
                # correlation data 64 kB or none → echoed whole, or reply without.
                device.publish(
                    "in/hall",
                    body(5),
                    ResponseTopic="reply/me",
                    CorrelationData=b"c" * 65535,
                    MessageExpiryInterval=60,
                )
                (answer,) = await get(device)
                assert answer.topic == "reply/me"
                assert answer.properties.CorrelationData == b"c" * 65535
                assert 55 <= answer.properties.MessageExpiryInterval <= 60
            assert rig.stats["protocol"] == "5"
            assert rig.session.is_alive

    run(main())


def test_payloads_by_content_type_fewer_answers_and_a_word_to_home_assistant(broker):
    async def main():
        config = BindingConfig(
            name="vib",
            from_="in/{site}",
            to="out/{site}",
            model="sum",
            codec="auto",
            output=OutputSpec(codec="json"),
            publish=PublishConfig(when="on_change"),
            discovery=DiscoveryConfig(device="{site}", delay=Duration(0)),
        )
        async with Rig(broker.port, config) as rig:
            with Device(broker, "out/#", "homeassistant/device/#") as device:
                packed = encode_cbor({"a": 4, "b": 0})
                for _ in range(3):
                    device.publish("in/hall", packed, ContentType="application/cbor")
                told, answer = sorted(await get(device, 2), key=lambda message: message.topic)
                assert (answer.topic, json.loads(answer.payload)["sum"]) == ("out/hall", 4)
                assert json.loads(told.payload)["state_topic"] == "out/hall"
                device.publish("in/hall", body(5))
                assert sums(await get(device)) == [5], "nothing for the two in between"
                device.publish("homeassistant/status", "online")
                (again,) = await get(device)
                assert again.payload == told.payload
            await until(lambda: rig.stats["in_flight"] == 0)
            found = rig.stats["bindings"]["vib"]
            assert (found["answered"], found["suppressed"]) == (2, 2)

    run(main())


def test_an_answer_with_mqtt_3(broker):
    async def main():
        async with Rig(broker.port, protocol="3.1.1") as rig:
            with Device(broker, "out/#", version=4) as device:
                device.publish("in/hall", body(4))
                assert sums(await get(device)) == [4]
            assert rig.stats["protocol"] == "3.1.1"

    run(main())


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_overlapping_bindings_answer_once_each(broker, protocol):
    """mosquitto sends an MQTT 5 client one copy for each subscription that matches."""

    async def main():
        configs = [VIB, BindingConfig(name="all", from_="in/#", to="all", model="sum")]
        async with Rig(broker.port, *configs, protocol=protocol) as rig:
            with Device(broker, "out/#", "all") as device:
                device.publish("in/hall", body(4))
                answers = await get(device, 2)
                assert sorted(message.topic for message in answers) == ["all", "out/hall"]
                device.publish("in/hall", body(5))
                assert sums(await get(device, 2)) == [5, 5], "a third answer to the first message"
            await until(lambda: rig.stats["in_flight"] == 0)

    run(main())


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_shared_filter_is_subscribed_to_as_the_broker_wants_it(broker, protocol):
    """No Local with it breaks the specification (MQTT-3.8.3-4); mosquitto 2.0 bears that, others not."""
    assert _may_skip_ours("in/+")
    assert not _may_skip_ours("$share/g/in/+")
    shared = BindingConfig(name="vib", from_="$share/g/in/{site}", to="out/{site}", model="sum")

    async def main():
        async with Rig(broker.port, shared, protocol=protocol) as rig:
            with Device(broker, "out/#") as device:
                device.publish("in/hall", body(4))
                (answer,) = await get(device)
                assert answer.topic == "out/hall"
            assert rig.stats["connections"] == 1

    run(main())


@pytest.mark.parametrize("answer", [CONNACK_V311_BAD_VERSION, b""])
def test_a_broker_that_speaks_only_3_1_1(broker, answer):
    """amqtt #174, aedes PR #1129: embeddable brokers lag on v5."""

    async def main():
        with Proxy(broker.port, answer_v5=answer) as proxy:
            async with Rig(proxy.port) as rig:
                assert rig.stats["protocol"] == "3.1.1"
                with Device(broker, "out/#") as device:
                    device.publish("in/hall", body(4))
                    assert sums(await get(device)) == [4]

    run(main())


def test_a_broker_that_comes_later(tmp_path):
    """absmach/export #28: QoS 1 is lost if the *first* connection never came up."""

    async def main():
        port = free_port()
        async with Rig(port, wait=False) as rig:
            await until(lambda: "refused" in rig.bindings.problem)
            with Mosquitto(tmp_path, port=port) as broker:
                await rig.connected()
                with Device(broker, "out/#") as device:
                    device.publish("in/hall", body(4))
                    assert sums(await get(device)) == [4]

    run(main())


@pytest.mark.hostile("E2 a request that is delivered again after our restart")
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_broker_restart_in_mid_flight_loses_nothing(broker, protocol):
    """paho.mqtt.python #348: message lost when processing fails after the ack."""

    async def main():
        async with Rig(broker.port, hold=True, protocol=protocol) as rig:
            with Device(broker) as device:
                for number in range(30):
                    device.publish("in/hall", body(number))
            await until(lambda: len(rig.door.held) == 30)
            await asyncio.to_thread(broker.restart)
            await rig.connected(2)
            await until(lambda: len(rig.door.held) == 60)
            with Device(broker, "out/#") as device:
                rig.door.release_all()
                answers = await get(device, 30)
                assert sums(answers) == list(range(30))
                if protocol == "5":
                    assert all(users(answer)["edged-dup"] == "1" for answer in answers)
                else:
                    assert all(json.loads(answer.payload)["edged-dup"] == 1 for answer in answers)
                await until(lambda: rig.stats["in_flight"] == 0)
                assert device.inbox.empty()
            assert rig.vib["answered"] == 30
            assert rig.vib["abandoned"] == 30

    run(main())


@pytest.mark.parametrize("ack_early", [False, True])
def test_a_cut_connection_loses_nothing_unless_acknowledged_early(broker, ack_early):
    """The negative control: with acknowledgements sent on arrival, the same cut loses them all."""

    async def main():
        with Proxy(broker.port) as proxy:
            async with Rig(proxy.port, hold=True, bindings={"ack_early": ack_early}) as rig:
                with Device(broker, "out/#") as device:
                    for number in range(10):
                        device.publish("in/hall", body(number))
                    await until(lambda: len(rig.door.held) == 10)
                    # PUBACKs sent before this one are at the broker when it has the status.
                    rig.bindings.announce({"x": 1}, [])
                    await until(lambda: not rig.bindings._waiters)
                    proxy.cut()
                    await rig.connected(2)
                    rig.door.hold = False
                    rig.door.release_all()
                    device.publish("in/hall", body(99))
                    expected = [99] if ack_early else [*range(10), 99]
                    assert sums(await get(device, len(expected))) == expected

    run(main())


def test_messages_sent_while_we_are_away_are_answered(broker):
    async def main():
        async with Rig(broker.port):
            pass
        with Device(broker, "out/#", "edged/n/status") as device:
            (status,) = await get(device)
            assert status.payload == b"offline"
            for number in range(50):
                device.publish("in/hall", body(number))
            async with Rig(broker.port):
                seen = await get(device, 51)
                assert sums(m for m in seen if m.topic == "out/hall") == list(range(50))

    run(main())


def test_the_will_says_offline_when_we_vanish(broker):
    async def main():
        with Proxy(broker.port) as proxy, Device(broker, "edged/n/status") as device:
            async with Rig(proxy.port) as rig:
                proxy.cut()
                await rig.connected(2)
                words = [message.payload for message in await get(device, 3)]
                assert words == [b"online", b"offline", b"online"]

    run(main())


CONNACK_V5_OK = b"\x20\x03\x00\x00\x00"
DISCONNECT_TAKEN_OVER = b"\xe0\x02\x8e\x00"


def test_a_session_taken_over_is_not_fought_for(caplog):
    """frigate #3280: two clients with one client id kick each other for ever."""

    def broker(listener):
        client, _ = listener.accept()
        with client:
            client.recv(1000)
            client.sendall(CONNACK_V5_OK + DISCONNECT_TAKEN_OVER)
            client.recv(1000)

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=broker, args=(listener,), daemon=True).start()
            async with Rig(listener.getsockname()[1], wait=False) as rig:
                await until(lambda: "another client took over" in (rig.bindings.problem or ""))
                assert rig.stats["state"] == "refused"
                assert rig.stats["connections"] == 1

    run(main())
    assert "another client took over our session" in caplog.text


def test_a_broker_that_does_not_say_so_is_tried_slowly(broker, caplog):
    """mosquitto 2.0 closes the loser's connection without a word."""

    async def main():
        async with Rig(broker.port) as rig:
            with Device(broker, client_id="edged-n"):
                await until(lambda: "client id" in (rig.bindings.problem or ""), 30)
                assert rig.stats["connections"] == 3

    run(main())
    assert 'our client id "edged-n"' in caplog.text


def test_a_wrong_password_is_said_and_tried_again_slowly(tmp_path, caplog):
    async def main():
        with Mosquitto(tmp_path, anonymous=False) as broker:
            async with Rig(broker.port, wait=False, username="a", password="b") as rig:
                await until(lambda: "check" in rig.bindings.problem)
                assert rig.stats["state"] == "connecting"

    run(main())
    assert "check" in caplog.text


@pytest.mark.hostile("E11 a subscription that the broker refuses")
def test_a_refused_subscription_is_a_problem(tmp_path, caplog):
    """SUBACK with a failure code → not ready, alarm."""
    (tmp_path / "access.json").write_text(
        json.dumps(
            {
                "defaultACLAccess": {
                    "publishClientSend": True,
                    "publishClientReceive": True,
                    "subscribe": False,
                    "unsubscribe": True,
                }
            }
        )
    )
    config = (
        "plugin /usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so\n"
        f"plugin_opt_config_file {tmp_path}/access.json"
    )

    async def main():
        with Mosquitto(tmp_path, config) as broker:
            async with Rig(broker.port, wait=False) as rig:
                await until(lambda: "in/+" in (rig.bindings.problem or ""))
                assert "Not authorized" in rig.bindings.problem

    run(main())
    assert "refuses the subscription" in caplog.text


def test_a_result_the_broker_refuses_becomes_a_dead_letter(tmp_path):
    acl = "topic readwrite in/#\ntopic readwrite edged/#\ntopic read out/#\n"

    async def main():
        with Mosquitto(tmp_path, acl=acl) as broker:
            async with Rig(broker.port) as rig:
                with Device(broker, "edged/n/error/#") as device:
                    device.publish("in/hall", body(1))
                    (letter,) = await get(device)
                    assert json.loads(letter.payload)["code"] == "PERMISSION_DENIED"
                await until(lambda: rig.stats["in_flight"] == 0)

    run(main())


def test_a_small_broker_is_not_overrun(tmp_path):
    """The broker's Receive Maximum and Maximum Packet Size are kept."""
    config = "max_inflight_messages 3\nmax_packet_size 3000"

    async def main():
        with Mosquitto(tmp_path, config) as broker:
            async with Rig(broker.port) as rig:
                with Device(broker, "out/#", "edged/n/error/#") as device:
                    for number in range(60):
                        device.publish("in/hall", body(number), wait=False)
                    assert sums(await get(device, 60)) == list(range(60))
                    rows = [{"a": 0.1, "b": 0}] * 150
                    device.publish("in/hall", json.dumps(rows, separators=(",", ":")))
                    (letter,) = await get(device)
                    assert "the broker takes 3000" in json.loads(letter.payload)["message"]
                assert rig.stats["connections"] == 1

    run(main())


@pytest.mark.hostile("E1 a payload that is empty, noise or cut short")
def test_hostile_payloads_end_as_dead_letters(broker):
    """empty, random, truncated payload → error on the response topic, message settled, counter."""
    bad = [b"", b"\x00" * 10, b'{"a": 1', b"\xff\xd8\xff", b"[" * 5000, b'{"a": NaN, "b": 1}']

    async def main():
        async with Rig(broker.port) as rig:
            with Device(broker, "reply", "edged/n/error/vib") as device:
                for payload in bad:
                    device.publish("in/hall", payload, ResponseTopic="reply")
                device.publish("in/hall", body(1), ResponseTopic="reply")
                answers = await get(device, 2 * len(bad) + 1)
            replies = [json.loads(m.payload) for m in answers if m.topic == "reply"]
            assert [found["error"]["code"] for found in replies[:-1]] == ["INVALID_ARGUMENT"] * 6
            assert replies[-1]["sum"] == 1
            await until(lambda: rig.vib["in_flight"] == 0)
            assert rig.vib["dead_lettered"] == len(bad)

    run(main())


@pytest.mark.hostile("E6 a retained request at each reconnect")
def test_retained_requests_are_not_run_again_at_each_reconnect(broker):
    """retained request seen again at each reconnect → run once or never by policy."""

    async def main():
        with Device(broker, "out/#") as device:
            device.publish("in/hall", body(1), retain=True)
            for protocol in ("5", "3.1.1"):
                async with Rig(broker.port, protocol=protocol, client_id=f"x{protocol[0]}") as rig:
                    device.publish("in/hall", body(2))
                    assert sums(await get(device)) == [2]
                    assert rig.vib["received"] == 1
            async with Rig(broker.port, client_id="live"):
                device.publish("in/hall", body(3), retain=True)
                assert sums(await get(device)) == [3], "one that comes while we listen runs once"

    run(main())


def test_an_old_subscription_is_given_back(broker, tmp_path):
    """telegraf #9703: changed topics not subscribed with a persistent session."""
    memory = SubscriptionMemory.in_file(tmp_path / "subscriptions.json")
    old = BindingConfig(name="old", from_="old/{x}", to="out/{x}", model="sum")

    async def main():
        async with Rig(broker.port, old, bindings={"memory": memory}):
            pass
        async with Rig(broker.port, VIB, bindings={"memory": memory}) as rig:
            await until(lambda: [*memory.load().held] == ["in/+"])
            with Device(broker, "out/#") as device:
                device.publish("old/a", body(1))
                device.publish("in/a", body(2))
                assert sums(await get(device)) == [2]
            assert rig.stats["unmatched"] == 0

    run(main())


def test_a_silent_broker_is_noticed_within_one_and_a_half_keepalives(broker):
    async def main():
        with Proxy(broker.port) as proxy:
            async with Rig(proxy.port, keepalive_s=1.0) as rig:
                begun = asyncio.get_running_loop().time()
                proxy.swallow = True
                await until(lambda: rig.stats["state"] != "connected", 5)
                assert asyncio.get_running_loop().time() - begun < 2.5
                await until(lambda: "keepalive" in (rig.bindings.problem or ""), 5)
                proxy.swallow = False
                await rig.connected(2)

    run(main())


@pytest.mark.hostile("E7 a broker that closes in mid-packet")
def test_a_peer_that_is_no_broker(caplog):
    """broker closes in mid-packet → reconnect with backoff."""

    def babble(listener):
        for data in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20", b"\x20\x0b\x00", b"\xf0" * 50):
            client, _ = listener.accept()
            with client:
                client.recv(1000)
                client.sendall(data)

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=babble, args=(listener,), daemon=True)
            thread.start()
            async with Rig(listener.getsockname()[1], wait=False, connect_timeout_s=1.0) as rig:
                await until(lambda: not thread.is_alive(), 30)
                assert rig.stats["state"] == "connecting"
                assert rig.stats["connections"] == 0

    run(main())


def make_certificate(path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (path / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path / "cert.pem"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls(tmp_path, caplog):
    """paho leaves the socket of a failed handshake to the garbage collector, hence the filter."""

    certificate = make_certificate(tmp_path)
    listener = f"certfile {certificate}\nkeyfile {tmp_path}/key.pem"
    plain = free_port()

    async def main():
        with Mosquitto(tmp_path, f"listener {plain} 127.0.0.1", listener=listener) as broker:
            trusting = ssl.create_default_context(cafile=str(certificate))
            async with Rig(broker.port, tls=trusting, host="localhost"):
                broker.port, secure = plain, broker.port
                with Device(broker, "out/#") as device:
                    for number in range(50):
                        device.publish("in/hall", body(number), wait=False)
                    assert sums(await get(device, 50)) == list(range(50))
            strict = ssl.create_default_context()
            async with Rig(secure, tls=strict, host="localhost", wait=False) as rig:
                # OpenSSL 3 writes self-signed, 1.1 self signed.
                await until(lambda: "TLS: self" in rig.bindings.problem)
        assert "TLS" in caplog.text

    run(main())


def test_paho_is_on_the_buffered_socket():
    """It is put in by a name of paho's that is not for all: on a plain socket all goes slower."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        options = SessionOptions("n", "edged/n", port=server.getsockname()[1])
        connection = PahoConnection(options, "5", 1, lambda _: None)
        connection.connect()
        assert isinstance(connection._client.socket(), BufferedSocket)
        peer, _ = server.accept()
        with peer:
            peer.settimeout(10)
            assert connection.wants_write()
            assert connection.step(is_readable=False)
            assert not connection.wants_write()
            assert peer.recv(1000)[0] == 0x10  # CONNECT
        connection._client._sock_close()


def test_stopping_before_a_broker_was_ever_there():
    async def main():
        async with Rig(free_port(), wait=False) as rig:
            await until(lambda: rig.stats["last_error"])
        assert rig.stats["state"] == "stopped"

    run(main())
