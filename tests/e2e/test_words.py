"""Words from a device over MQTT to scikit-learn's own answers, with the real daemon and broker."""

import json

import numpy as np
import pytest

import converters
from edged.manifest import parse_manifest
from edged.processing.codecs import build_codec
from edged.store.keys import generate_key
from tests.converters.worded import recipe_of_words, save_worded
from tests.e2e.process import running, wait_for
from tests.fakes.broker import Device, Mosquitto

ROWS = [
    {"mass": 0.5, "color": "red"},
    {"mass": -1.0, "color": "blau\u00e4"},
    {"mass": 0.5, "color": "mauve"},
    {"mass": 0.5, "color": None},
    {"mass": 0.5},
]
BODY = """
trust: {{keys: [release.pub]}}
models:
  parts: {{bundle: parts-1.edgb}}
mqtt: {{host: 127.0.0.1, port: {port}}}
bindings:
  - {{name: parts, from: in/parts, to: out/parts, model: parts}}
"""


@pytest.mark.timeout(120)
def test_words_of_devices_and_of_a_native_client(tmp_path):
    model, table = save_worded(tmp_path)
    key, _ = generate_key(tmp_path / "release")
    recipe = recipe_of_words(tmp_path, name="parts")
    converters.convert(recipe, tmp_path / "parts-1.edgb", key=key, trust=True)
    colors = [row.get("color") for row in ROWS]
    raw = table.head(len(ROWS)).assign(mass=[row["mass"] for row in ROWS], color=colors)
    expected = model.predict_proba(raw.astype({"color": object}))
    with Mosquitto(tmp_path) as broker, running(tmp_path, BODY.format(port=broker.port)) as daemon:
        wait_for(lambda: daemon.status()["mqtt"]["state"] == "connected")
        with Device(broker, "out/parts", "edged/+/error/parts") as device:
            device.publish("in/parts", json.dumps(ROWS))
            answer = json.loads(device.one().payload)
            device.publish("in/parts", json.dumps({"mass": 1, "color": 7}))
            refused = json.loads(device.one().payload)
        with daemon.client() as client:
            manifest = parse_manifest(client.call("manifest", model="parts").encode())
            codec = build_codec("json", manifest, input_name=None, fields=())
            inputs = codec.decode(json.dumps(ROWS).encode())
            native = client.infer("parts", inputs, release=manifest.release)
    scores = [[entry["score"] for entry in row["top"]] for row in answer["rows"]]
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    np.testing.assert_allclose(native["probabilities"], expected, atol=1e-6)
    assert 'field "color": expected a word (a JSON string); got a number' in json.dumps(
        refused
    ).replace('\\"', '"')
