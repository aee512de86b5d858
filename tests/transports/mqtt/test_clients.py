"""Which client the configuration's word means; tests/broker/test_link.py sees what is imported."""

import pytest

from edged.config.mqtt import MqttConfig
from edged.transports.mqtt.clients import open_session
from edged.transports.mqtt.connection import SessionOptions
from edged.transports.mqtt.native import NativeSession
from edged.transports.mqtt.paho import MqttSession


@pytest.mark.parametrize(("word", "kind"), [("native", NativeSession), ("paho", MqttSession)])
def test_by_its_word(word, kind):
    assert type(open_session(SessionOptions("n", "edged/n"), word)) is kind


def test_our_own_is_the_default():
    assert MqttConfig().client == "native"
