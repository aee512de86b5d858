"""Names of brokers, and what one of them is by default."""

import msgspec
import pytest

from edged.config.brokers import MAIN, BrokerName, NamedBrokerConfig
from edged.config.mqtt import MqttConfig


@pytest.mark.parametrize("name", ["plant", "a-1_b", "0", MAIN])
def test_names(name):
    assert msgspec.convert(name, BrokerName) == name


@pytest.mark.parametrize("name", ["", "Plant", "a b", "a/b", "x" * 17, "-a", "a\n"])
def test_no_names(name):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, BrokerName)


def test_the_defaults_are_those_of_mqtt():
    ours, first = NamedBrokerConfig(), MqttConfig()
    for field in NamedBrokerConfig.__struct_fields__:
        assert getattr(ours, field) == getattr(first, field), field
