import gzip
import json
import time

import pytest

from edged.config.payload import MaxAgeConfig, ProtobufConfig
from edged.errors import DecodeError, FieldError
from edged.processing.cbor_data import encode_cbor
from edged.specs import Duration
from edged.transports.bindings.payload_codecs import PayloadCodecs, load_parser
from tests.fakes.door import SUM
from tests.processing.test_protobuf_data import SET, Reading
from tests.protocol.test_sparkplug import metric
from tests.transports.bindings.test_bindings import GOOD, Bench, binding, on_loop
from tests.transports.conftest import until

ROW = {"a": 1, "b": 2}


def codecs(**words):
    return PayloadCodecs(binding(**words), SUM, None, 1 << 20)


@pytest.mark.parametrize(
    ("content_type", "payload"),
    [
        (None, GOOD),
        ("application/json", GOOD),
        ("Application/JSON; charset=utf-8", GOOD),
        ("application/cbor", encode_cbor(ROW)),
    ],
)
def test_auto_goes_by_content_type(content_type, payload):
    found = codecs(codec="auto").choose(content_type).decode(payload)
    assert found["x"].tolist() == [[1, 2]]


@pytest.mark.parametrize("content_type", ["application/x-edged-tensor", "text/plain", "", "\0"])
def test_auto_takes_nothing_that_the_operator_did_not_name(content_type):
    with pytest.raises(DecodeError, match="accepts json, cbor"):
        codecs(codec="auto", accept=("json", "cbor")).choose(content_type)


@pytest.mark.hostile("R18 what a message calls itself selects no decoder")
def test_without_auto_a_content_type_chooses_nothing():
    found = codecs(codec="json")
    assert found.choose("application/cbor") is found.choose(None)
    assert found.choose(None).decode(GOOD)["x"].tolist() == [[1, 2]]


def test_an_accepted_codec_that_cannot_fit_is_refused_in_the_check():
    with pytest.raises(FieldError):
        codecs(codec="auto", accept=("json", "image"))


def test_compressed():
    found = codecs(compression="gzip").choose(None)
    assert found.decode(gzip.compress(GOOD))["x"].tolist() == [[1, 2]]
    with pytest.raises(DecodeError, match="not gzip"):
        found.decode(GOOD)


def test_protobuf_by_a_file(tmp_path):
    path = tmp_path / "reading.desc"
    config = binding(
        codec="protobuf",
        fields=("temp", "humidity"),
        schema=ProtobufConfig(descriptors=str(path), message="plant.Reading"),
    )
    with pytest.raises(FieldError, match="cannot read"):
        load_parser(config)
    path.write_bytes(SET)
    found = PayloadCodecs(config, SUM, load_parser(config), 1 << 20).choose(None)
    payload = Reading(temp=1, humidity=2).SerializeToString()
    assert found.decode(payload)["x"].tolist() == [[1, 2]]


def test_sparkplug_metrics_by_name():
    found = codecs(codec="sparkplug", fields=("a/1", "b")).choose(None)
    payload = metric("a/1", 3, b"\x50\x07") + metric("b", 9, b"\x65\x00\x00\xc0\x3f")
    assert found.decode(payload)["x"].tolist() == [[7, 1.5]]


@on_loop
async def test_a_request_that_is_too_old_ends_as_expired():
    bench = Bench(binding(max_age=MaxAgeConfig(field="ts", within=Duration(60 * 10**9))))
    for age_s in (0, 3600):
        payload = json.dumps(ROW | {"ts": time.time() - age_s}).encode()
        bench.session.receive("in/hall", payload)
    bench.session.receive("in/hall", GOOD)
    await until(lambda: len(bench.session.acked) == 3)
    found = bench.counters()
    assert (found["answered"], found["expired"], found["dead_lettered"]) == (1, 1, 1)
    assert "says when" in bench.letters()[0]["message"]


@on_loop
async def test_a_bomb_over_a_binding_is_a_dead_letter():
    bench = Bench(binding(compression="gzip"))
    bench.session.receive("in/hall", gzip.compress(b" " * (8 << 20)))
    bench.session.receive("in/hall", gzip.compress(GOOD))
    await until(lambda: len(bench.session.acked) == 2)
    assert "come out of the compressed payload" in bench.letters()[0]["message"]
    assert len(bench.session.to("out/hall")) == 1
