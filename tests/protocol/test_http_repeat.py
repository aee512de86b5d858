"""What repeats is read once; every answer is to the byte what the long way writes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import InvalidRequestError
from edged.messages import InferResponse
from edged.protocol.http_reader import HttpReader, HttpRequest
from edged.protocol.http_repeat import HttpLane, HttpRepeat, same_part, whole_answer
from edged.protocol.oip_request import Asked, decode_raw, decode_request
from edged.tensors import DTYPES, TensorSpec

X = np.arange(4, dtype=np.float32).reshape(1, 4)
PLAIN = [name for name in DTYPES if name != "bool"]


def tensor(name: str, array: np.ndarray) -> dict[str, Any]:
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": DTYPES[array.dtype.name].oip,
        "parameters": {"binary_data_size": array.nbytes},
    }


def post(*arrays: np.ndarray, headers: str = "", **more: Any) -> bytes:
    document = {
        "inputs": [tensor(f"x{at}", array) for at, array in enumerate(arrays)],
        "parameters": {"binary_data_output": True},
        **more,
    }
    text = json.dumps(document).encode()
    body = text + b"".join(array.tobytes() for array in arrays)
    return (
        f"POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\n{headers}"
        f"Inference-Header-Content-Length: {len(text)}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def read(data: bytes) -> tuple[HttpRequest, Asked]:
    (request,) = HttpReader(1 << 20).feed(data)
    length = int(request.headers["inference-header-content-length"])
    if not length:
        return request, decode_raw(request.body, [TensorSpec("x", "float32", ("batch", 4))])
    return request, decode_request(request.body, length, 1 << 20)


def repeat(data: bytes) -> HttpRepeat:
    same = same_part(*read(data))
    assert same is not None
    return HttpRepeat(same, read(data)[1])


class Doubling:
    """A call bound to memory."""

    is_current = True

    def bind(self, inputs: dict, outputs: dict, rows: int) -> Doubling:
        assert rows == 0
        self.inputs, self.outputs = inputs, outputs
        return self

    def run(self, origin: str, key: object = None) -> tuple[int, int, int, int] | None:
        if origin == "busy":
            return None
        for array, made in zip(self.inputs.values(), self.outputs.values(), strict=True):
            made[...] = array * 2
        return 5, 1, 1000, 1


class TestWhatRepeats:
    @pytest.mark.parametrize("dtype", PLAIN)
    def test_each_type(self, dtype: str) -> None:
        first, second = (np.array([[1, 2]]).astype(dtype) * times for times in (1, 3))
        known = repeat(post(first, X))
        assert known.fits(post(second, X * 2))
        inputs = known.inputs(post(second, X * 2))
        np.testing.assert_array_equal(inputs["x0"], second)
        np.testing.assert_array_equal(inputs["x1"], X * 2)
        assert [(spec.name, spec.dtype, spec.shape) for spec in known.specs] == [
            ("x0", dtype, (1, 2)),
            ("x1", "float32", (1, 4)),
        ]

    def test_a_body_that_is_one_tensor(self) -> None:
        data = post(X).partition(b"Inference")[0] + (
            b"Inference-Header-Content-Length: 0\r\nContent-Length: 32\r\n\r\n"
        )
        known = repeat(data + bytes(32))
        assert known.specs == (TensorSpec("x", "float32", (2, 4)),)

    @pytest.mark.parametrize(
        "data",
        [
            post(X, outputs=[{"name": "y", "parameters": {"binary_data": False}}]),
            post(X, outputs=[{"name": "y", "parameters": {"classification": 2}}]),
            post(X, parameters={}),
            post(X, parameters={"binary_data_output": True, "sequence_id": 1}),
            post(np.array([True])),
            post(X, np.zeros((0, 4), np.float32)),
            post(np.zeros(20_000, np.float32)),
        ],
        ids=["JSON out", "classes", "JSON by default", "sequence", "bool", "empty", "large"],
    )
    def test_what_has_no_like(self, data: bytes) -> None:
        assert same_part(*read(data)) is None

    @pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r\n\r\n"])
    def test_empty_lines_behind_it(self, end: bytes) -> None:
        """Its tensors do not end with what arrived: the next ones would be read out of place."""
        assert same_part(*read(post(X) + end)) is None
        known = repeat(b"\r\n" + post(X))
        np.testing.assert_array_equal(known.inputs(b"\r\n" + post(X * 2))["x0"], X * 2)

    def test_json_that_is_as_long_as_its_tensor(self) -> None:
        """Without a length of the JSON none of the body is a tensor."""
        for count in range(60):
            document = {
                "inputs": [
                    {"name": "x", "shape": [count], "datatype": "FP64", "data": [1] * count}
                ],
                "parameters": {"binary_data_output": True},
            }
            body = json.dumps(document, separators=(",", ":")).encode()
            head = f"POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}"
            (request,) = HttpReader(1 << 20).feed(head.encode() + b"\r\n\r\n" + body)
            assert same_part(request, decode_request(request.body, None, 1 << 20)) is None

    def test_a_tensor_in_the_json(self) -> None:
        x = {"name": "x1", "shape": [1], "datatype": "FP32", "data": [1]}
        data = post(X, inputs=[tensor("x0", X), x])
        assert same_part(*read(data)) is None

    @given(st.data())
    def test_any_other_bytes_do_not_fit(self, drawn: st.DataObject) -> None:
        """Whatever fits is read by the long way as the same request."""
        first = post(X, id="abc")
        known, data = repeat(first), bytearray(first)
        for _ in range(drawn.draw(st.integers(1, 3))):
            at = drawn.draw(st.integers(0, len(data) - 1))
            data[at] = drawn.draw(st.integers(0, 255))
        changed = bytes(data)
        at, end = known.same.hole
        assert first[at:end] == b"abc"
        is_same = (changed[:at], changed[end:-16]) == (first[:at], first[end:-16])
        is_plain = all(32 <= one < 127 and one not in b'"\\' for one in changed[at:end])
        assert known.fits(changed) == (is_same and is_plain)
        if known.fits(changed):
            asked = read(changed)[1]
            assert known.asker(changed)["id"] == asked.id
            assert known.asker(changed) == asked.asker
            np.testing.assert_array_equal(known.inputs(changed)["x0"], asked.inputs["x0"])

    @pytest.mark.parametrize("other", ["abd", "x-1", "}{ ", "m~/"])
    def test_another_id(self, other: str) -> None:
        known, data = repeat(post(X, id="abc", n="m")), post(X, id=other, n="m")
        assert known.fits(data)
        assert known.asker(data) == read(data)[1].asker

    @pytest.mark.parametrize("other", ['a"b', "a\\b", "é ", "\x7f12", "ab", "abcd"])
    def test_an_id_of_other_letters_or_another_length(self, other: str) -> None:
        """Among them letters that would end the text, or mean others."""
        raw = post(X, id="abc").replace(b'"abc"', f'"{other}"'.encode())
        assert not repeat(post(X, id="abc")).fits(raw)

    @pytest.mark.parametrize(
        "more",
        [
            {"id": "x0"},
            {"id": "é1"},
            {"id": 'a"1'},
            {"id": "abc", "note": "\n"},
            {"id": "abc", "parameters": {"binary_data_output": True, "of": "abc"}},
        ],
        ids=["a name as well", "other letters", "escaped", "something escaped", "twice"],
    )
    def test_an_id_whose_place_is_not_sure(self, more: dict[str, Any]) -> None:
        known, data = repeat(post(X, **more)), post(X * 2, **more)
        assert known.same.hole == (0, 0)
        assert known.fits(data)
        assert not known.fits(data.replace(b'"id": "', b'"id": "\x01', 1)[:-1])

    def test_an_id_written_otherwise_beside_one_that_reads_like_it(self) -> None:
        inner = {"parameters": {"binary_data_output": True, "id": "x"}}
        data = post(X, id="QQQQQQ", **inner).replace(b"QQQQQQ", b"\\u0078")
        assert read(data)[1].id == "x"
        assert repeat(data).same.hole == (0, 0)

    def test_an_id_that_shares_a_quotation_mark_with_what_reads_like_it(self) -> None:
        data = post(X, id="Z").replace(b'"id": "Z"', b'"id":":" ')
        assert read(data)[1].id == ":"
        known = repeat(data)
        assert known.fits(data)
        assert not known.fits(data.replace(b'"id":":" ', b'"id"A":" '))  # this is no JSON

    @pytest.mark.parametrize("change", [-1, 1])
    def test_another_length_does_not_fit(self, change: int) -> None:
        data = post(X)
        known = repeat(data)
        assert not known.fits(data[:change] if change < 0 else data + b"a")


class TestAnswer:
    def test_the_same_bytes_as_ever(self) -> None:
        data = post(X, id="7")
        known = repeat(data)
        half = X.astype(np.float16)
        responses = [
            InferResponse("m", 5, 1, {"y": X * 3, "z": half}),
            InferResponse("m", 5, 1, {"y": X.T.copy().T, "z": half * 2}),  # not contiguous
            InferResponse("m", 6, 2, {"y": X * 4, "z": half}),  # another release
            InferResponse("m", 6, 2, {"y": np.vstack([X, X]), "z": half}),  # another shape
            InferResponse("m", 6, 2, {"y": X.astype(">f4"), "z": half}),  # another order of bytes
            InferResponse("m", 6, 2, {"y": X[:0], "z": half[:0]}),
            InferResponse("m", 6, 2, {"y": np.zeros(60_000), "z": half}),
        ]
        for response in responses * 2 + responses[::-1]:
            expected = b"".join(whole_answer(known.asked, response, {}))
            assert b"".join(known.answer(response, data)) == expected

    @pytest.mark.parametrize("name", ["m", "a1b2"])
    def test_the_id_of_each(self, name: str) -> None:
        """Also where the model is called as the first of them."""
        known = repeat(post(X, id="a1b2"))
        for number in (5, 6, 6, 7):
            data = post(X, id=f"{number}-{number}.")
            response = InferResponse(name, number, 1, {"y": X * number})
            expected = b"".join(whole_answer(read(data)[1], response, {}))
            assert b"".join(known.answer(response, data)) == expected

    def test_outputs_in_the_order_asked_for(self) -> None:
        wanted = [{"name": name, "parameters": {"binary_data": True}} for name in ("z", "y")]
        data = post(X, outputs=wanted)
        known = repeat(data)
        response = InferResponse("m", 5, 1, {"y": X, "z": X * 2})
        for _ in range(3):
            assert b"".join(known.answer(response, data)).endswith((X * 2).tobytes() + X.tobytes())


class TestLane:
    def lane(self, data: bytes, *outputs: TensorSpec) -> HttpLane:
        return HttpLane(repeat(data), Doubling(), outputs, "m", (5,))

    def test_the_same_bytes_as_ever(self) -> None:
        data = post(X, X[:, :1], id="7")
        lane = self.lane(
            data, TensorSpec("y", "float32", (1, 4)), TensorSpec("z", "float32", (1, 1))
        )
        for times in (1, 5, 9):
            now = X * times
            response = InferResponse("m", 5, 1, {"y": now * 2, "z": now[:, :1] * 2})
            expected = b"".join(whole_answer(read(data)[1], response, {}))
            assert lane.ask(post(now, now[:, :1].copy(), id="7"), "a") == expected
            other = expected.replace(b'"id":"7"', b'"id":"8"')
            assert lane.ask(post(now, now[:, :1].copy(), id="8"), "a") == other
        assert lane.is_current

    def test_what_has_to_go_the_usual_way(self) -> None:
        lane = self.lane(post(X), TensorSpec("y", "float32", (1, 4)))
        assert lane.ask(post(X), "busy") is None

    @pytest.mark.parametrize(
        ("data", "shape"),
        [(post(X), (1, "n")), (post(X), (1, 2000)), (post(np.zeros(4000, np.float32)), (1,))],
        ids=["free", "large answer", "large question"],
    )
    def test_there_is_none(self, data: bytes, shape: tuple) -> None:
        with pytest.raises(InvalidRequestError):
            self.lane(data, TensorSpec("y", "float32", shape))
