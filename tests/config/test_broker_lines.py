"""Which lines a configuration has, and what each is told."""

import pytest

from edged.config.binding import BindingConfig
from edged.config.broker import ResultsConfig, Secret
from edged.config.broker_lines import (
    Line,
    brokers_problems,
    config_of,
    files_of_brokers,
    line_of,
    lines_of,
    meets,
)
from edged.config.brokers import NamedBrokerConfig
from edged.config.feed import FeedConfig
from edged.config.mqtt import MqttConfig
from edged.config.schema import Config, ModelConfig
from edged.config.sparkplug import SparkplugConfig


def binding(name, **words):
    return BindingConfig(name=name, from_="in/{d}", to="out/{d}", model="m", **words)


CONFIG = Config(
    node="n",
    mqtt=MqttConfig(host="first", results=ResultsConfig(host="far"), questions=("models",)),
    brokers={
        "plant": NamedBrokerConfig(host="p", username="u", password=Secret(file="pw")),
        "cloud": NamedBrokerConfig(host="c", client_id="own", max_inflight=7),
    },
    models={"m": ModelConfig(bundle="x", publish=FeedConfig(to="m"))},
    bindings=(
        binding("a"),
        binding("b", broker="plant", results="cloud"),
        binding("c", results="plant"),
        binding("d", broker="cloud", results="mqtt"),
        binding("e", results="mqtt"),
    ),
)


def test_the_lines_and_who_speaks():
    lines = lines_of(CONFIG)
    assert [line.name for line in lines] == [
        "mqtt", "plant", "plant to cloud", "mqtt to plant", "cloud", "cloud to mqtt",
        "mqtt to mqtt",
    ]  # fmt: skip
    assert [line.name for line in lines if line.speaks] == ["mqtt", "plant", "cloud"]
    assert lines_of(Config(mqtt=MqttConfig(), brokers=CONFIG.brokers)) == [Line()]


@pytest.mark.parametrize(
    ("line", "host", "results", "name", "bindings"),
    [
        (Line(), "first", "far", None, "a"),
        (Line("plant"), "p", None, "edged-n-plant", ""),
        (Line("plant", "cloud"), "p", "c", "edged-n-plant-to-cloud", "b"),
        (Line("mqtt", "plant"), "first", "p", "edged-n-to-plant", "c"),
        (Line("cloud", "mqtt"), "c", "first", "own-to-mqtt", "d"),
        (Line("mqtt", "mqtt"), "first", None, "edged-n-to-mqtt", "e"),
    ],
)
def test_what_a_line_is_told(line, host, results, name, bindings):
    found = config_of(CONFIG, line)
    mqtt = found.mqtt
    assert (mqtt.host, mqtt.client_id) == (host, name)
    assert (mqtt.results and mqtt.results.host) == results
    assert [one.name for one in found.bindings] == list(bindings)
    is_first = line == Line()
    assert bool(mqtt.questions) == bool(found.models["m"].publish) == is_first
    assert mqtt.base in (None, "edged/n")
    if line.broker == "plant":
        assert (mqtt.username, mqtt.password) == ("u", Secret(file="pw"))


@pytest.mark.parametrize(
    ("words", "results", "line"),
    [
        ({}, None, Line("mqtt", "mqtt", by_disk=True)),
        ({}, ResultsConfig(host="far"), Line()),
        ({"results": "mqtt"}, ResultsConfig(host="far"), Line("mqtt", "mqtt", by_disk=True)),
        ({"broker": "plant"}, None, Line("plant", "plant", by_disk=True)),
        ({"broker": "plant", "results": "mqtt"}, None, Line("plant", "mqtt")),
    ],
)
def test_qos_2_goes_by_the_disk(words, results, line):
    config = Config(
        node="n", mqtt=MqttConfig(host="first", results=results), brokers=CONFIG.brokers,
        bindings=(binding("a", answer_qos=2, **words),),
    )  # fmt: skip
    assert line_of(config, config.bindings[0]) == line
    assert line in lines_of(config)
    told = config_of(config, line)
    assert told.mqtt.results is not None
    assert [one.name for one in told.bindings] == ["a"]
    if line.by_disk:
        assert line.name.endswith(" by disk")
        assert told.mqtt.results.host == told.mqtt.host
        assert told.mqtt.client_id.endswith("-2")


def test_names_stay_within_what_brokers_take():
    config = Config(node="n" * 60, mqtt=MqttConfig(), brokers=CONFIG.brokers)
    name = config_of(config, Line("plant", "cloud")).mqtt.client_id
    assert len(name) == 64
    assert name.endswith("-to-cloud")


def test_answers_meet_who_reads_from_their_broker():
    a, b, c, d, e = CONFIG.bindings
    assert [meets(b, one) for one in (a, b, c, d, e)] == [False, False, False, True, False]


def test_files_and_problems():
    assert list(files_of_brokers(CONFIG)) == [("brokers.plant.password.file", "pw")]
    assert list(brokers_problems(CONFIG, ())) == []
    assert line_of(CONFIG, CONFIG.bindings[3]) == Line("cloud", "mqtt")


@pytest.mark.parametrize(
    ("words", "where"),
    [
        ({"mqtt": None}, "brokers"),
        ({"brokers": {"mqtt": NamedBrokerConfig()}, "bindings": ()}, "brokers.mqtt"),
        (
            {
                "mqtt": MqttConfig(client="paho"),
                "brokers": {"b": NamedBrokerConfig(websocket="/")},
                "bindings": (),
            },
            "brokers.b.websocket",
        ),
        (
            {"bindings": (BindingConfig(name="x", from_="in", model="m", answer_qos=2),)},
            "bindings[0].answer_qos",
        ),
        (
            {"bindings": (binding("x", broker="plant", sparkplug=SparkplugConfig(device="d")),)},
            "bindings[0].sparkplug",
        ),
    ],
)
def test_refused(words, where):
    values = {name: getattr(CONFIG, name) for name in ("mqtt", "brokers", "bindings")} | words
    assert where in [path for path, _ in brokers_problems(Config(**values), ())]
