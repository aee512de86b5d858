"""What is asked of a peer, and how a right answer is known in any server's words."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.peers import asking

ROW = np.array([[1.0, 2.0, 3.0, 4.5]], np.float32)
VALUES = np.array([[0.889488, 0.098062344, 0.01244973]], np.float32)


def body_of(request: bytes) -> bytes:
    head, _, body = request.partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % len(body) in head
    return body


def test_binary():
    request = asking.request(asking.OIP_BINARY, ROW)
    assert request.startswith(b"POST /v2/models/tiny/infer HTTP/1.1\r\n")
    body = body_of(request)
    assert body.endswith(ROW.tobytes())
    head = body[: -ROW.nbytes]
    assert b"Inference-Header-Content-Length: %d\r\n" % len(head) in request
    (tensor,) = json.loads(head)["inputs"]
    assert tensor["shape"] == [1, 4]
    assert tensor["parameters"] == {"binary_data_size": 16}


@pytest.mark.parametrize(
    ("form", "where"),
    [
        (asking.OIP_JSON, lambda said: said["inputs"][0]["data"]),
        (asking.Form("/predict", "named"), lambda said: said["x"]),
        (asking.Form("/invocations", "inputs"), lambda said: said["inputs"]["x"]),
    ],
    ids=["json", "named", "inputs"],
)
def test_json(form: asking.Form, where):
    request = asking.request(form, ROW)
    assert request.startswith(f"POST {form.path} ".encode())
    assert np.ravel(where(json.loads(body_of(request)))).tolist() == ROW.ravel().tolist()


def test_unknown_form():
    with pytest.raises(ValueError, match="form yaml: expected binary, json, named or inputs"):
        asking.request(asking.Form("/", "yaml"), ROW)


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":"1","shape":[1,3],"data":[0.889488,0.098062344,0.01244973],"more":[7]}',
        b"[[0.8894879817962646, 0.09806234389543533, 0.01244972925633192]]",
        b'{"shape": [1, 3], "predictions": [\n [8.89488e-1, 0.098062344, 1.244973e-2]]}',
    ],
    ids=["flat", "nested", "other letters"],
)
def test_right_numbers_are_found_as_they_are_written(body: bytes):
    found = asking.wanted(body, VALUES)
    assert found in body
    assert np.ravel(json.loads(found)) == pytest.approx(VALUES.ravel(), abs=1e-6)


def test_right_bytes_are_found():
    assert asking.wanted(b'{"x":[1]}' + VALUES.tobytes(), VALUES) == VALUES.tobytes()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"data":[0.889488,0.098062344,0.02]}',
        b'{"data":[0.889488,0.098062344]}',
        b'{"data":[0.889488,0.098062344,0.01244973',
        b'{"data":[0.889488,,0.01244973]}',
    ],
    ids=["nothing", "another", "too few", "cut off", "no JSON"],
)
def test_anything_else_is_no_answer(body: bytes):
    with pytest.raises(ValueError, match="expected"):
        asking.wanted(body, VALUES)
