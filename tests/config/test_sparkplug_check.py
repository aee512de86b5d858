"""A node, its devices, and what may not read what it says."""

import pytest

from edged.config.binding import BindingConfig
from edged.config.keyed import WindowConfig
from edged.config.mqtt import MqttConfig
from edged.config.schema import Config
from edged.config.sparkplug import SparkplugConfig, SparkplugNodeConfig
from edged.config.sparkplug_check import own_sparkplug_topics, sparkplug_problems

NODE = MqttConfig(sparkplug=SparkplugNodeConfig(group="g"))
SITE = SparkplugConfig(device="{site}")


def problems(mqtt=NODE, sparkplug=SITE, **words):
    values = {"name": "b", "from_": "in/{site}", "to": "out/{site}", "model": "m"} | words
    binding = BindingConfig(sparkplug=sparkplug, **values)
    config = Config(mqtt=mqtt, bindings=(binding,))
    return [where for where, _ in sparkplug_problems(config, binding, "b")]


def test_good():
    assert problems() == problems(to=None) == problems(MqttConfig(), sparkplug=None) == []


@pytest.mark.parametrize(
    ("words", "where"),
    [
        ({"mqtt": MqttConfig()}, ""),
        ({"stream": True}, ""),
        ({"to": None, "window": WindowConfig(rows=4)}, ""),
        ({"sparkplug": SparkplugConfig(device="{room}")}, ".device"),
        ({"sparkplug": SparkplugConfig(device="a/{site}")}, ".device"),
    ],
)
def test_refused(words, where):
    assert problems(**words) == [f"b.sparkplug{where}"]


def test_what_the_node_says():
    assert own_sparkplug_topics(Config(node="n", mqtt=NODE)) == (
        "spBv1.0/g/+/n",
        "spBv1.0/g/+/n/+",
    )
    assert own_sparkplug_topics(Config(node="n", mqtt=MqttConfig())) == ()
