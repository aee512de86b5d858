"""What can never pass a broker, by the least that a message has."""

import pytest

from edged.config.broker import ResultsConfig
from edged.config.mqtt import MqttConfig
from edged.errors import FieldError
from edged.specs import OutputProcessing, OutputSpec, Size
from edged.transports.bindings.binding import Binding
from edged.transports.bindings.sizes import (
    Limits,
    check_sizes,
    least_answer,
    least_request,
    oversized,
    stated_limits,
)
from tests.fakes.manifests import make_manifest
from tests.transports.bindings.test_bindings import binding

MANIFEST = make_manifest(
    [("x", "float32", ("batch", 1000))],
    [("y", "float64", ("batch", 100)), ("z", "int8", ("batch", "n"))],
)


def of(*_):
    return MANIFEST


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"codec": "raw"}, 4000),
        ({"codec": "tensor"}, 4000),
        ({"codec": "json"}, 0),
        ({"codec": "image"}, 0),
        ({"codec": "raw", "compression": "gzip"}, 0),
    ],
)
def test_the_least_request(words, expected):
    assert least_request(binding(**words), MANIFEST) == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({}, 200),
        ({"codec": "cbor"}, 100),
        ({"codec": "tensor"}, 800),
        ({"codec": "tensor", "tensor": "z"}, 0),
        ({"codec": "raw", "tensor": "y"}, 800),
        ({"top_k": 1}, 0),
    ],
)
def test_the_least_answer(output, expected):
    assert least_answer(binding(output=OutputSpec(**output)), MANIFEST) == expected


def test_texts_may_be_short():
    text = make_manifest(
        [("x", "float32", ("batch", 2))],
        [("t", "uint8", ("batch", 5000))],
        output_processing={"t": OutputProcessing(text=True)},
    )
    assert least_answer(binding(), text) == 0


def test_which_broker_takes_what():
    assert stated_limits(MqttConfig()) == Limits(None, None)
    assert stated_limits(MqttConfig(max_packet_size=Size(2048))) == Limits(2048, 2048)
    mqtt = MqttConfig(results=ResultsConfig(host="far", max_packet_size=Size(4096)))
    assert stated_limits(mqtt) == Limits(None, 4096)


def test_a_binding_is_refused_by_what_the_operator_says():
    good, raw = binding("a"), binding("b", codec="raw", output=OutputSpec(codec="tensor"))
    check_sizes([good, raw], of, MqttConfig(max_packet_size=Size(4000)))
    with pytest.raises(FieldError) as caught:
        check_sizes([good, raw], of, MqttConfig(max_packet_size=Size(3999)))
    assert caught.value.path == "bindings[1]"
    assert "a request of one row has at least 4000 bytes, and its broker takes 3999" in str(
        caught.value
    )
    mqtt = MqttConfig(results=ResultsConfig(host="far", max_packet_size=Size(790)))
    with pytest.raises(FieldError, match="at least 800 bytes, and the broker takes 790"):
        check_sizes([raw], of, mqtt)
    check_sizes([binding(to=None, codec="raw", output=OutputSpec(codec="tensor"))], of, mqtt)


def test_what_a_broker_said_is_held_against_all_bindings():
    bindings = tuple(Binding(binding(name), name) for name in "ab")
    assert list(oversized(bindings, of, Limits(None, 200))) == []
    assert [text.partition(":")[0] for text in oversized(bindings, of, Limits(None, 199))] == [
        "binding a",
        "binding b",
    ]
    assert list(oversized(bindings, lambda *_: None, Limits(1, 1))) == []
