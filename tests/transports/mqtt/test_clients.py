"""Which client the configuration's word means; tests/broker/test_link.py sees what is imported."""

import asyncio

import pytest

from edged.config.mqtt import MqttConfig
from edged.transports.mqtt.clients import open_session
from edged.transports.mqtt.connection import SessionOptions
from edged.transports.mqtt.native import NativeSession
from edged.transports.mqtt.paho import MqttSession
from tests.fakes.broker import Mosquitto
from tests.transports.conftest import until


@pytest.mark.parametrize(("word", "kind"), [("native", NativeSession), ("paho", MqttSession)])
def test_by_its_word(word, kind):
    assert type(open_session(SessionOptions("n", "edged/n"), word)) is kind


def test_our_own_is_the_default():
    assert MqttConfig().client == "native"


@pytest.mark.broker
def test_two_of_one_name_know_it_before_a_broker_that_says_nothing(tmp_path):
    async def work(port):
        options = SessionOptions("n", "edged/n", "127.0.0.1", port, "3.1.1")
        both = [open_session(options, client) for client in ("native", "paho")]
        for session in both:
            session.start(asyncio.get_running_loop(), lambda _: None)
        await until(lambda: all(session.stats()["suspicion"] for session in both), 60)
        for session in both:
            assert 'client id "n"' in session.stats()["suspicion"]
            await session.stop(5)

    with Mosquitto(tmp_path) as broker:
        asyncio.run(work(broker.port))
