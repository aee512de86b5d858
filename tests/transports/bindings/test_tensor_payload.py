import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import InvalidRequestError, TooLargeError
from edged.messages import InferResponse
from edged.transports.bindings.tensor_payload import (
    HEAD_BYTES,
    TensorCodec,
    encode_raw,
    encode_tensors,
)

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def payload(*entries):
    """Each entry an array in bytes behind the line, or the JSON of an input."""
    inputs, tail = [], b""
    for number, entry in enumerate(entries):
        if isinstance(entry, dict):
            inputs.append(entry)
            continue
        tail += entry.tobytes()
        inputs.append(
            {
                "name": f"x{number}",
                "shape": list(entry.shape),
                "datatype": {"f": "FP32", "i": "INT64"}[entry.dtype.kind],
                "parameters": {"binary_data_size": entry.nbytes},
            }
        )
    return json.dumps({"inputs": inputs}).encode() + b"\n" + tail


def test_tensors_behind_the_line():
    got = TensorCodec().decode(payload(X, np.arange(3)))
    assert got["x0"].tolist() == X.tolist()
    assert (got["x0"].dtype, got["x1"].tolist()) == (np.float32, [0, 1, 2])


def test_numbers_in_the_line():
    entry = {"name": "a", "shape": [2], "datatype": "INT8", "data": [1, -2]}
    for text in (payload(entry), payload(entry).rstrip()):
        assert TensorCodec().decode(text)["a"].tolist() == [1, -2]


@pytest.mark.parametrize(
    "text",
    [
        b"", b"\n", b"{}", b"[]\n", b'{"inputs": []}\n',
        payload(X)[:-1], payload(X) + b"x", payload(X).replace(b"\n", b""),
        payload(X).replace(b"FP32", b"FP99"), payload(X).replace(b"[2, 3]", b"[2, 4]"),
        payload(X).replace(b"[2, 3]", b"[-2, 3]"), payload(X).replace(b"x0", b"\xff0"),
        payload(
            {"name": "a", "shape": [1], "datatype": "FP32",
             "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 4}}
        ),
    ],
)  # fmt: skip
def test_refused(text):
    with pytest.raises(InvalidRequestError):
        TensorCodec().decode(text)


def test_a_line_without_end():
    with pytest.raises(TooLargeError, match="one line"):
        TensorCodec().decode(b" " * (HEAD_BYTES + 1))


@given(st.binary(max_size=100))
def test_any_bytes_end_in_tensors_or_our_errors(data):
    for text in (data, payload(X)[: -len(data) or None] + data):
        try:
            TensorCodec().decode(text)
        except InvalidRequestError:
            continue


def test_an_answer_is_read_as_a_request_is():
    response = InferResponse("m", 3, 1, {"x": X, "n": np.array([7])})
    head, _, tail = encode_tensors(response, ()).partition(b"\n")
    document = json.loads(head)
    assert (document["model_name"], document["model_version"]) == ("m", "3")
    as_request = json.dumps({"inputs": document["outputs"]}).encode() + b"\n" + tail
    got = TensorCodec().decode(as_request)
    assert (got["x"].tolist(), got["n"].tolist()) == (X.tolist(), [7])
    assert b'"n"' not in encode_tensors(response, ("x",)).partition(b"\n")[0]


def test_raw_bytes_are_little_endian_whatever_the_model_gave():
    assert encode_raw({"x": X.astype(">f4")}, "x") == X.tobytes()
    assert encode_raw({"x": X.T}, "x") == np.ascontiguousarray(X.T).tobytes()
