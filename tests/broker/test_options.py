"""What the results' session takes from the first; secrets and certificates are in test_broker.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edged.broker.options import results_options, session_options, tls_digest
from edged.config.broker import ResultsConfig, TlsConfig
from edged.config.mqtt import MqttConfig
from edged.config.schema import Config


def snapshot(root, mqtt: MqttConfig):
    return SimpleNamespace(config=Config(node="n", mqtt=mqtt), resolve=lambda path: root / path)


@pytest.mark.parametrize(("client_id", "expected"), [(None, "edged-n-results"), ("mine", "mine")])
def test_the_other_broker_has_a_session_of_its_own(tmp_path, client_id, expected):
    other = ResultsConfig(host="far", port=8883, client_id=client_id, max_inflight=7)
    mqtt = MqttConfig(host="near", results=other)
    first = session_options(snapshot(tmp_path, mqtt), mqtt)
    found = results_options(snapshot(tmp_path, mqtt), mqtt, first)
    assert found is not None
    assert (found.client_id, found.host, found.port, found.max_inflight) == (
        expected, "far", 8883, 7,
    )  # fmt: skip
    assert found.session_expiry_s == 0
    alone = MqttConfig(host="near")
    assert results_options(snapshot(tmp_path, alone), alone, first) is None


def test_the_digest_changes_with_a_certificate(tmp_path):
    mqtt = MqttConfig(tls=TlsConfig(ca="ca.pem"))
    absent = tls_digest(snapshot(tmp_path, mqtt), mqtt)
    (tmp_path / "ca.pem").write_text("one")
    one = tls_digest(snapshot(tmp_path, mqtt), mqtt)
    (tmp_path / "ca.pem").write_text("two")
    assert len({absent, one, tls_digest(snapshot(tmp_path, mqtt), mqtt)}) == 3
