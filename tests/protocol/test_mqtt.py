import json

import numpy as np
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edged.errors import DecodeError, QueueFullError
from edged.messages import InferResponse
from edged.protocol.broker_session import Publication
from edged.protocol.mqtt import (
    DUP,
    BaseTopics,
    answer_properties,
    before_v5,
    encode_answer,
    encode_dead_letter,
    encode_document,
    encode_error,
    encode_properties,
    error_properties,
)

RESPONSE = InferResponse("gate", 3, 7, {"y": np.zeros(1)})


def test_one_row_stands_beside_who_answered():
    assert json.loads(encode_answer(RESPONSE, [{"label": "7", "score": 0.9}])) == {
        "model": "gate",
        "release": 3,
        "generation": 7,
        "label": "7",
        "score": 0.9,
    }


@pytest.mark.parametrize("rows", [[], [{"y": 1}, {"y": 2}], [{"model": 1}]])
def test_several_rows_or_a_clash_of_names_make_a_list(rows):
    document = json.loads(encode_answer(RESPONSE, rows))
    assert document == {"model": "gate", "release": 3, "generation": 7, "rows": rows}


def test_errors_and_dead_letters():
    error = DecodeError('row 0, field "a": is missing \ud800')
    assert json.loads(encode_error(error)) == {
        "error": {
            "code": "INVALID_ARGUMENT",
            "name": "DecodeError",
            "message": 'row 0, field "a": is missing \\ud800',
        }
    }
    letter = json.loads(encode_dead_letter("vib", error, "in/x", b"abc"))
    assert letter["size"] == 3
    assert letter["sha256"].startswith("ba7816bf")
    assert letter["topic"] == "in/x"
    assert set(letter) == {"binding", "code", "message", "topic", "size", "sha256"}


def test_user_properties():
    assert ("edged-dup", "1") not in answer_properties(RESPONSE, is_dup=False)
    assert answer_properties(RESPONSE, is_dup=True)[-1] == ("edged-dup", "1")
    assert error_properties("gate", QueueFullError("full"), is_dup=True) == (
        ("edged-model", "gate"),
        ("edged-status", "RESOURCE_EXHAUSTED"),
        ("edged-dup", "1"),
    )


def test_our_own_tree():
    topics = BaseTopics("edged/n")
    assert topics.error("vib") == "edged/n/error/vib"
    assert topics.holds("edged/n")
    assert topics.holds("edged/n/x/y")
    assert not topics.holds("edged/nn")
    assert topics.owns("edged/n")
    assert topics.owns("edged/n/error/vib")
    assert not topics.owns("edged/n/result/digits")
    assert not topics.owns("status")
    assert not topics.holds("edged")


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"content_type": "application/json", "expiry_s": 4_000_000_000},
        {"correlation": b""},
        {"correlation": b"c" * 65535, "properties": (("edged-model", "gat\u00e9"), ("a", ""))},
        {"properties": tuple((f"k{i}", "v" * 50) for i in range(3))},
    ],
)
def test_properties_read_as_paho_reads_them(words):
    packed = encode_properties(Publication("t", b"", **words))
    read = Properties(PacketTypes.PUBLISH)
    _, size = read.unpack(packed + b"payload")
    assert size == len(packed)
    assert getattr(read, "ContentType", None) == words.get("content_type")
    assert getattr(read, "MessageExpiryInterval", None) == words.get("expiry_s")
    assert getattr(read, "CorrelationData", None) == words.get("correlation")
    assert tuple(getattr(read, "UserProperty", ())) == words.get("properties", ())


def test_documents_carry_no_nan():
    assert encode_document({"a": float("nan")}) == b'{"a":null}'


@pytest.mark.parametrize(
    ("payload", "sent"),
    [
        (b'{"y":1}', b'{"edged-dup":1,"y":1}'),
        (b"{}", b'{"edged-dup":1}'),
        (b'{"edged-dup":2}', b'{"edged-dup":2}'),  # an output of that name
        (b"[1]", b"[1]"),
    ],
)
def test_before_mqtt_5_a_document_carries_the_mark(payload, sent):
    marked = Publication("t", payload, content_type="application/json", properties=(DUP,))
    assert before_v5(marked).payload == sent
    json.loads(sent)
    assert before_v5(marked._replace(properties=())).payload == payload
    assert before_v5(marked._replace(content_type="image/png")).payload == payload
