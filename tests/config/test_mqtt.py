"""The connection that brings requests: its fields, and the files that they name."""

from __future__ import annotations

import msgspec

from edged.config.broker import BrokerConfig, ResultsConfig, Secret, TlsConfig
from edged.config.mqtt import MqttConfig


def test_every_broker_is_told_the_same_words():
    common = {item.name for item in msgspec.structs.fields(BrokerConfig)}
    for cls in (MqttConfig, ResultsConfig):
        fields = {item.name: item for item in msgspec.structs.fields(cls)}
        assert common <= fields.keys()
        assert all(
            fields[item.name].type == item.type for item in msgspec.structs.fields(BrokerConfig)
        )


def test_the_files_of_both_brokers():
    config = MqttConfig(
        username="u",
        password=Secret(file="near.txt"),
        tls=TlsConfig(ca="near.pem"),
        results=ResultsConfig(host="far", tls=TlsConfig(cert="far.pem", key="far.key")),
    )
    assert config.files() == (
        ("mqtt.password.file", "near.txt"),
        ("mqtt.tls.ca", "near.pem"),
        ("mqtt.results.tls.cert", "far.pem"),
        ("mqtt.results.tls.key", "far.key"),
    )
    assert MqttConfig().files() == ()
