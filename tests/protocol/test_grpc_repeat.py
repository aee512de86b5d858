"""Messages that are like one that was read: known, read and answered as by the long way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edged.messages import InferResponse
from edged.protocol.grpc_repeat import REPEAT_BYTES, GrpcRepeat, repeat_of
from edged.protocol.oip_grpc import decode_infer, encode_infer
from edged.protocol.oip_messages import INFER_REQUEST
from edged.protocol.protobuf import encode
from edged.tensors import DTYPES

X, Y = np.float32([[1, 2, 3]]), np.int64([7, 8])


def message(x: Any = X, y: Any = Y, **changes: Any) -> bytes:
    inputs = [
        {"name": name, "datatype": DTYPES[one.dtype.name].oip, "shape": list(one.shape)}
        for name, one in (("x", x), ("y", y))
    ]
    document = {
        "model_name": "m", "inputs": inputs, "raw_input_contents": [x.tobytes(), y.tobytes()],
        **changes,
    }  # fmt: skip
    return encode(INFER_REQUEST, document)


def known(data: bytes) -> GrpcRepeat | None:
    return repeat_of(data, decode_infer(data, 1 << 30))


def repeat() -> GrpcRepeat:
    found = known(message())
    assert found is not None
    return found


def test_the_same_but_for_its_tensors() -> None:
    other = message(X * 5, Y * 5)
    assert repeat().fits(other)
    assert repeat().fits(memoryview(other))
    found = repeat().inputs(other)
    for name, array in decode_infer(other, 1 << 30).asked.inputs.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)


def test_every_other_byte_counts() -> None:
    data = message()
    made = repeat()
    tensors = {
        index
        for one in made.fields
        for index in range(one.offset, one.offset + one.elements * one.dtype.itemsize)
    }
    assert len(tensors) == X.nbytes + Y.nbytes
    for index in range(len(data)):
        changed = data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]
        assert made.fits(changed) == (index in tensors)
    assert not made.fits(data + b"\x00")
    assert not made.fits(data[:-1])


@pytest.mark.parametrize(
    "data",
    [
        message(id="é1"),
        message(id="a" * 128),
        message(id="one", model_name="\x1a\x03one"),
        message(parameters={"sequence_id": {"int64": 4}}),
        message(outputs=[{"name": "y", "parameters": {"classification": {"int64": 1}}}]),
        message(np.array([True])),
        message(np.zeros((0, 3), np.float32)),
        message(np.zeros(REPEAT_BYTES, np.uint8)),
        encode(INFER_REQUEST, {"model_name": "m"}),
        encode(
            INFER_REQUEST,
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1],
                         "contents": {"fp32_contents": [1]}}]},
        ),
        encode(
            INFER_REQUEST,
            {"inputs": [{"name": "x", "datatype": "INT8", "shape": [1],
                         "contents": {"int_contents": [1]}}]},
        ),
    ],
)  # fmt: skip
def test_what_has_no_like(data: bytes) -> None:
    assert known(data) is None


def test_at_every_address() -> None:
    """A runtime is given elements at addresses of their own size, wherever they came."""
    for length in range(1, 17):
        data = message(model_name="m" * length)
        found = known(data)
        assert found is not None
        for name, array in found.inputs(data).items():
            assert array.flags.aligned
            np.testing.assert_array_equal(array, {"x": X, "y": Y}[name])


def test_answers_are_the_long_ways() -> None:
    data = message()
    made = repeat()
    asked = made.inference.asked
    for number in range(3):
        for outputs in ({"x": X * number}, {"x": X, "y": Y * number}, {"x": np.float32([[1]])}):
            response = InferResponse("m", 4, 1, outputs)
            wanted = b"".join(encode_infer(asked, response, {}))
            assert b"".join(made.answer(response, data)) == wanted
            assert b"".join(made.answer(response, data)) == wanted
    turned = InferResponse("m", 4, 1, {"x": np.float32([[1, 2], [3, 4]]).T})
    for _ in range(2):
        assert b"".join(made.answer(turned, data)) == b"".join(encode_infer(asked, turned, {}))
    nothing = InferResponse("m", 4, 1, {})
    for _ in range(2):
        assert b"".join(made.answer(nothing, data)) == b"".join(encode_infer(asked, nothing, {}))


class TestIds:
    def test_each_its_own(self) -> None:
        made = known(message(id="abc", model_name="m"))
        assert made is not None
        for number, request_id in enumerate(("abd", "abc", "}{ ", "m~/")):
            data = message(X * number, id=request_id)
            assert made.fits(data)
            assert made.fits(memoryview(data))
            asked = decode_infer(data, 1 << 30).asked
            assert made.asker(memoryview(data)) == asked.asker == {"id": request_id}
            response = InferResponse("m", 4, 1, {"x": X * number, "y": Y})
            wanted = b"".join(encode_infer(asked, response, {}))
            for _ in range(2):
                assert b"".join(made.answer(response, data)) == wanted

    @pytest.mark.parametrize("other", ["ab", "abcd", "é1", "a\nb", 'a"b'])
    def test_of_other_letters_or_another_length(self, other: str) -> None:
        made = known(message(id="abc"))
        assert made is not None
        assert not made.fits(message(id=other))

    def test_bytes_that_read_like_it_inside_a_field(self) -> None:
        """The id itself is written in another way, its length in two bytes."""
        data = message(id="one", model_name="\x1a\x03one")
        changed = data.replace(b"\x1a\x03one", b"\x1a\x83\x00one").replace(
            b"\n\x05\x1a\x83\x00one", b"\n\x05\x1a\x03one"
        )
        assert decode_infer(changed, 1 << 30).asked.id == "one"
        assert changed.count(b"\x1a\x03one") == 1
        assert known(changed) is None

    def test_an_answer_in_which_something_else_reads_like_it(self) -> None:
        made = known(message(id="abc"))
        assert made is not None
        response = InferResponse("\x1a\x03abc", 4, 1, {"x": X})
        data = message(id="abd")
        wanted = b"".join(encode_infer(decode_infer(data, 1 << 30).asked, response, {}))
        for _ in range(2):
            assert b"".join(made.answer(response, data)) == wanted
