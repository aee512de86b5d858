"""Answers, as a client of the protocol would read them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from edged.errors import InvalidRequestError
from edged.messages import InferResponse
from edged.protocol.oip_answer import Body, encode_response
from edged.protocol.oip_request import Asked, Wanted

Y = np.float32([[0.25, 3, 1], [7, 5, 6]])


def answer(*outputs: Wanted, asked_id: str = "", is_binary: bool = False, **arrays: Any) -> Body:
    asked = Asked(asked_id, {}, outputs, is_binary)
    response = InferResponse("m", 3, 1, arrays or {"y": Y})
    return encode_response(asked, response, {"y": ("cat", "dog", "eel")})


def document(body: Body) -> Any:
    return json.loads(bytes(body.parts[0]))


def test_json() -> None:
    body = answer(asked_id="a")
    assert body.json_bytes == 0
    assert document(body) == {
        "id": "a",
        "model_name": "m",
        "model_version": "3",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [2, 3], "data": Y.reshape(-1).tolist()}
        ],
    }
    assert "id" not in document(answer())


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float64"])
def test_numbers_are_of_their_kind(dtype: str) -> None:
    array = np.array([0, 1], dtype)
    (output,) = document(answer(y=array))["outputs"]
    assert output["data"] == array.tolist()
    assert [type(value) for value in output["data"]] == [type(v) for v in array.tolist()]


def test_what_is_no_number_is_written_as_others_write_it() -> None:
    (output,) = document(answer(y=np.float32([math.nan, math.inf, -math.inf, 1])))["outputs"]
    assert math.isnan(output["data"][0])
    assert output["data"][1:] == [math.inf, -math.inf, 1]


@pytest.mark.parametrize(
    "array", [Y, Y.T, Y[:, ::2], np.float16([1, 2]), np.array(5.0), np.array([1], ">i4")]
)
def test_binary(array: Any) -> None:
    body = answer(is_binary=True, y=array)
    text, blob = body.parts
    assert body.json_bytes == len(text)
    (output,) = document(body)["outputs"]
    assert "data" not in output
    assert output["parameters"] == {"binary_data_size": array.nbytes}
    assert output["shape"] == list(array.shape)
    assert bytes(blob) == array.astype(array.dtype.newbyteorder("<")).tobytes()


def test_some_of_each_in_the_order_that_was_asked() -> None:
    body = answer(Wanted("b", is_binary=True), Wanted("a", is_binary=False), a=Y, b=np.int8([4]))
    assert [one["name"] for one in document(body)["outputs"]] == ["b", "a"]
    assert [bytes(part) for part in body.parts[1:]] == [b"\x04"]


def test_nothing_follows_where_all_is_empty() -> None:
    body = answer(is_binary=True, y=np.zeros((0, 3), np.float32))
    assert body.json_bytes == 0
    assert document(body)["outputs"][0]["parameters"] == {"binary_data_size": 0}


def test_half_floats_have_no_form_in_json() -> None:
    with pytest.raises(InvalidRequestError, match="binary data"):
        answer(y=np.float16([1]))


class TestClasses:
    def test_labels(self) -> None:
        (output,) = document(answer(Wanted("y", is_binary=False, classes=2)))["outputs"]
        assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
        assert output["data"] == [
            "3.000000:1:dog",
            "1.000000:2:eel",
            "7.000000:0:cat",
            "6.000000:2:eel",
        ]

    def test_more_than_there_are(self) -> None:
        (output,) = document(answer(Wanted("y", is_binary=False, classes=9)))["outputs"]
        assert output["shape"] == [2, 3]

    def test_whole_numbers_and_one_row(self) -> None:
        wanted = Wanted("z", is_binary=False, classes=1)
        (output,) = document(answer(wanted, z=np.int64([4, 9])))["outputs"]
        assert (output["shape"], output["data"]) == ([1], ["9:1"])

    def test_binary(self) -> None:
        body = answer(Wanted("y", is_binary=True, classes=1))
        assert bytes(body.parts[1]) == b"\x0e\0\0\x003.000000:1:dog\x0e\0\0\x007.000000:0:cat"
