import json

import numpy as np
import pytest

from edged.errors import FieldError
from edged.messages import InferResponse
from edged.processing.cbor_data import parse_cbor
from edged.processing.msgpack_data import parse_msgpack
from edged.specs import OutputProcessing, OutputSpec
from edged.transports.bindings.answers import AnswerWriter
from edged.transports.bindings.tensor_payload import TensorCodec
from tests.fakes.manifests import make_manifest
from tests.transports.bindings.test_bindings import GOOD, Bench, binding, on_loop

ONE = make_manifest([("x", "float32", ("batch", 2))], name="m")
LABELLED = make_manifest(
    [("x", "float32", ("batch", 2))],
    output_processing={"y": OutputProcessing(labels=("a", "b", "c"))},
    name="m",
)
TWO = make_manifest([("x", "float32", (1,))], [("y", "float32", (2,)), ("z", "int64", (1,))])
TEXTS = make_manifest([("x", "float32", (1,))], [("y", "string", (1,))])
Y = np.array([[0.25, 0.5, 0.0]], np.float32)
RESPONSE = InferResponse("m", 1, 7, {"y": Y})
META = {"model": "m", "release": 1, "generation": 7}


def write(manifest=ONE, *, wants_rows=False, **words):
    return AnswerWriter(OutputSpec(**words), manifest, wants_rows=wants_rows).write(RESPONSE)


@pytest.mark.parametrize(
    ("codec", "content_type", "read"),
    [
        ("json", "application/json", json.loads),
        ("cbor", "application/cbor", parse_cbor),
        ("msgpack", "application/msgpack", parse_msgpack),
    ],
)
def test_documents_say_the_same(codec, content_type, read):
    answer = write(codec=codec)
    assert answer.content_type == content_type
    assert read(answer.payload) == META | {"y": [0.25, 0.5, 0.0]}
    assert read(write(LABELLED, codec=codec).payload)["label"] == "b"


def test_tensors_are_what_the_model_gave():
    answer = write(LABELLED, codec="tensor")
    head, _, tail = answer.payload.partition(b"\n")
    assert (answer.content_type, tail) == ("application/x-edged-tensor", Y.tobytes())
    assert json.loads(head)["outputs"][0]["datatype"] == "FP32"
    raw = write(LABELLED, codec="raw")
    assert (raw.content_type, raw.payload) == ("application/octet-stream", Y.tobytes())
    assert (answer.rows, raw.rows) == ([], [])
    assert write(LABELLED, codec="raw", wants_rows=True).rows[0]["label"] == "b"


@pytest.mark.parametrize(
    ("manifest", "words", "path"),
    [
        (ONE, {"codec": "raw", "top_k": 1}, "output.codec"),
        (ONE, {"codec": "tensor", "threshold": 0.5}, "output.codec"),
        (ONE, {"codec": "tensor", "activation": "softmax"}, "output.codec"),
        (ONE, {"codec": "tensor", "tensor": "z"}, "output.tensor"),
        (ONE, {"codec": "raw", "tensor": "z"}, "output.tensor"),
        (TWO, {"codec": "raw"}, "output.tensor"),
        (TEXTS, {"codec": "raw"}, "output.codec"),
        (TEXTS, {"codec": "cbor"}, "output.tensor"),
    ],
)
def test_refused_in_the_check(manifest, words, path):
    with pytest.raises(FieldError) as caught:
        AnswerWriter(OutputSpec(**words), manifest, wants_rows=False)
    assert caught.value.path == path


@on_loop
async def test_over_a_binding_errors_stay_json():
    bench = Bench(binding(output=OutputSpec(codec="cbor"), codec="tensor"))
    line = b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}'
    bench.session.receive("in/hall", line)
    (answer,) = bench.session.to("out/hall")
    assert answer.content_type == "application/cbor"
    assert parse_cbor(answer.payload)["sum"] == 3.0
    bench.session.receive("in/hall", GOOD, response_topic="reply")
    (reply,) = bench.session.to("reply")
    assert reply.content_type == "application/json"
    assert json.loads(reply.payload)["error"]["code"] == "INVALID_ARGUMENT"


def test_what_is_sent_can_be_sent_back():
    head, _, tail = write(codec="tensor").payload.partition(b"\n")
    text = json.dumps({"inputs": json.loads(head)["outputs"]}).encode() + b"\n" + tail
    assert TensorCodec().decode(text)["y"].tolist() == Y.tolist()
