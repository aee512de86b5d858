"""Inference requests: what they mean, and what is refused with which words."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edged.errors import EdgedError, InvalidRequestError, TooLargeError
from edged.messages import SequenceStep
from edged.protocol.oip_request import Asked, Wanted, decode_raw, decode_request
from edged.tensors import DTYPES, TensorSpec

CAP = 1 << 20


def tensor(data: Any = None, **more: Any) -> dict[str, Any]:
    entry = {"name": "x", "shape": [1, 2], "datatype": "FP32", **more}
    return entry if data is None else {**entry, "data": data}


def ask(*inputs: dict[str, Any], blobs: bytes = b"", cap: int = CAP, **more: Any) -> Asked:
    text = json.dumps({"inputs": list(inputs), **more}).encode()
    return decode_request(text + blobs, len(text) if blobs else None, cap)


def refused(*inputs: dict[str, Any], **more: Any) -> str:
    with pytest.raises(EdgedError) as caught:
        ask(*inputs, **more)
    return caught.value.message


class TestJson:
    @pytest.mark.parametrize(
        ("datatype", "data"),
        [
            ("FP32", [1, 2.5]),
            ("FP64", [-0.1, 1e300]),
            ("INT8", [-128, 127]),
            ("UINT8", [0, 255]),
            ("INT64", [-(2**63), 2**63 - 1]),
            ("UINT64", [0, 2**64 - 1]),
            ("BOOL", [True, False]),
        ],
    )
    def test_flat_and_nested(self, datatype: str, data: list[Any]) -> None:
        flat = ask(tensor(data, datatype=datatype)).inputs["x"]
        nested = ask(tensor([data], datatype=datatype)).inputs["x"]
        assert flat.shape == nested.shape == (1, 2)
        assert flat.tolist() == nested.tolist() == [data]
        assert flat.dtype == nested.dtype == {d.oip: d.numpy for d in DTYPES.values()}[datatype]

    @pytest.mark.hostile("B4 NaN, Infinity and 1e999 in a tensor of JSON")
    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1e39"])
    def test_numbers_that_are_none(self, number: str) -> None:
        text = json.dumps({"inputs": [tensor([1, 0])]}).replace("1, 0", f"1, {number}").encode()
        with pytest.raises(InvalidRequestError, match="Unable to parse"):
            decode_request(text, None, CAP)

    @pytest.mark.parametrize(
        ("datatype", "data"),
        [
            ("INT8", [1, 128]),
            ("UINT8", [-1, 1]),
            ("UINT64", [-1, 1]),
            ("INT32", [1, 2**31]),
            ("UINT64", [1, 2**64]),
            ("INT64", [1.5, 1]),
            ("BOOL", [0, 1]),
            ("FP32", [True, 1]),
            ("FP32", ["1", 1]),
            ("FP32", [None, 1]),
            ("FP32", [[1], [2, 3]]),
        ],
    )
    def test_values_of_another_kind(self, datatype: str, data: list[Any]) -> None:
        words = refused(tensor(data, datatype=datatype))
        assert '"x"' in words

    @pytest.mark.hostile("B10 data whose length is not the shape's")
    @pytest.mark.parametrize("data", [[1], [1, 2, 3], [], [[1, 2], [3, 4]], [[[1, 2]]]])
    def test_another_number_of_elements(self, data: list[Any]) -> None:
        assert 'input "x"' in refused(tensor(data))

    @pytest.mark.hostile("B3 JSON that is nested 100,000 deep")
    @pytest.mark.parametrize("where", ["data", "shape", "unknown", "all"])
    def test_deep_nesting(self, where: str) -> None:
        deep = "[" * 100_000 + "]" * 100_000
        entry = {"data": "[1,2]", "shape": "[1,2]", "unknown": "1"}
        if where != "all":
            entry[where] = deep
        members = ",".join(f'"{key}":{value}' for key, value in entry.items())
        text = f'{{"inputs":[{{"name":"x","datatype":"FP32",{members}}}]}}'
        with pytest.raises(InvalidRequestError):
            decode_request((deep if where == "all" else text).encode(), None, CAP)

    @pytest.mark.hostile("B5 small JSON that grows beyond the cap when it becomes a tensor")
    def test_growth(self) -> None:
        data = [0] * 1000
        assert ask(tensor(data, shape=[1000], datatype="FP64"), cap=8000).inputs["x"].nbytes == 8000
        with pytest.raises(TooLargeError, match=r"limits\.max_request"):
            ask(tensor(data, shape=[1000], datatype="FP64"), cap=7999)
        two = tensor(data, shape=[1000]), tensor(data, shape=[1000], name="y")
        with pytest.raises(TooLargeError):
            ask(*two, cap=7999)

    def test_huge_shapes(self) -> None:
        with pytest.raises(TooLargeError):
            ask(tensor([1], shape=[2**31, 2**31, 2**31]))
        assert "Unable to parse" in refused(tensor([1], shape=[2**40]))
        assert "Unable to parse" in refused(tensor([1], shape=[-1, 2]))
        assert "Unable to parse" in refused(tensor([1], shape=[1] * 9))

    @pytest.mark.parametrize("datatype", ["FP16", "BF16"])
    def test_half_floats_have_no_form(self, datatype: str) -> None:
        assert "binary" in refused(tensor([1, 2], datatype=datatype))

    def test_strings(self) -> None:
        flat = ask(tensor(["ä", ""], datatype="BYTES")).inputs["x"]
        nested = ask(tensor([["ä", ""]], datatype="BYTES")).inputs["x"]
        assert flat.tolist() == nested.tolist() == [["ä".encode(), b""]]
        assert flat.shape == nested.shape == (1, 2)

    @pytest.mark.parametrize(
        "data",
        [[1, 2], ["a"], ["a", "b", "c"], [["a"], ["b"]], [["a", "b"], []], ["a", None], "ab"],
    )
    def test_no_strings_of_the_shape(self, data: Any) -> None:
        assert 'input "x"' in refused(tensor(data, datatype="BYTES"))

    def test_text_with_half_a_pair(self) -> None:
        text = b'{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","data":["\\ud800"]}]}'
        with pytest.raises(InvalidRequestError):
            decode_request(text, None, CAP)

    @pytest.mark.parametrize("datatype", ["STRING", "BFLOAT16", "float32", ""])
    def test_other_types(self, datatype: str) -> None:
        assert "there are: BOOL" in refused(tensor([1, 2], datatype=datatype))

    @pytest.mark.parametrize(
        "text", [b"", b"{}", b"[]", b"null", b'{"inputs":[]}', b"\xff\xfe", b'{"inputs":[{}]}']
    )
    def test_no_requests(self, text: bytes) -> None:
        with pytest.raises(InvalidRequestError, match="Unable to parse the request"):
            decode_request(text, None, CAP)

    def test_what_is_unknown_is_ignored(self) -> None:
        assert ask(tensor([1, 2], more=1), model_name="x").inputs["x"].size == 2

    @pytest.mark.hostile("B9 missing, unknown or repeated inputs")
    def test_twice(self) -> None:
        assert "given twice" in refused(tensor([1, 2]), tensor([1, 2]))


class TestBinary:
    def binary(self, size: Any, **more: Any) -> dict[str, Any]:
        return tensor(parameters={"binary_data_size": size}, **more)

    def test_in_the_order_of_the_inputs(self) -> None:
        first, second = np.float32([[1, 2]]), np.int8([[3, 4]])
        asked = ask(
            self.binary(8),
            tensor([True, False], name="z", datatype="BOOL"),
            self.binary(2, name="y", datatype="INT8"),
            blobs=first.tobytes() + second.tobytes(),
        )
        assert asked.inputs["x"].tolist() == [[1, 2]]
        assert asked.inputs["y"].tolist() == [[3, 4]]
        assert asked.inputs["z"].tolist() == [[True, False]]

    @pytest.mark.parametrize("offset", range(4))
    def test_they_are_views_where_a_float_may_lie_there(self, offset: int) -> None:
        text = json.dumps({"inputs": [self.binary(8)]}).encode()
        text += b" " * (-len(text) % 4 + offset)
        body = bytearray(text + struct.pack("<2f", 1, 2))
        array = decode_request(body, len(text), CAP).inputs["x"]
        assert array.flags.aligned
        body[-4:] = struct.pack("<f", 5)
        assert array.tolist() == ([[1, 2]] if offset else [[1, 5]])

    @pytest.mark.parametrize("size", [7, 9, -8, True, "8", 8.0])
    def test_other_sizes(self, size: Any) -> None:
        assert "binary_data_size" in refused(self.binary(size), blobs=bytes(8))

    def test_too_few_and_too_many(self) -> None:
        assert "7 bytes are left" in refused(self.binary(8), blobs=bytes(7))
        assert "1 bytes follow" in refused(self.binary(8), blobs=bytes(9))
        assert "bytes follow" in refused(tensor([1, 2]), blobs=bytes(9))

    def test_neither_and_both(self) -> None:
        assert "exactly one of" in refused(tensor())
        both = {**self.binary(8), "data": [1, 2]}
        assert "exactly one of" in refused(both, blobs=bytes(8))

    def test_a_bool_that_is_neither(self) -> None:
        entry = self.binary(2, datatype="BOOL")
        assert ask(entry, blobs=b"\x00\x01").inputs["x"].tolist() == [[False, True]]
        assert "0 or 1" in refused(entry, blobs=b"\x00\x02")

    @given(
        st.sampled_from(sorted(DTYPES)).flatmap(
            lambda name: arrays.arrays(DTYPES[name].numpy, arrays.array_shapes(max_dims=3))
        )
    )
    def test_bit_for_bit(self, array: Any) -> None:
        entry = self.binary(
            array.nbytes, datatype=DTYPES[array.dtype.name].oip, shape=list(array.shape)
        )
        got = ask(entry, blobs=array.tobytes()).inputs["x"]
        assert got.tobytes() == array.tobytes()
        assert (got.dtype, got.shape) == (array.dtype, array.shape)


class TestRaw:
    def spec(self, *shape: Any, dtype: str = "float32") -> TensorSpec:
        return TensorSpec("x", dtype, shape)

    def test_the_free_axis_follows_from_the_length(self) -> None:
        asked = decode_raw(np.arange(8, dtype=np.float32).tobytes(), [self.spec("batch", 4)])
        assert asked.inputs["x"].shape == (2, 4)
        assert asked.is_binary
        assert decode_raw(bytes(16), [self.spec(1, 4)]).inputs["x"].shape == (1, 4)

    @pytest.mark.parametrize(
        ("shape", "size"), [(("batch", 4), 15), (("batch", 4), 0), ((2, 4), 64), (("a", "b"), 16)]
    )
    def test_lengths_that_fit_none(self, shape: tuple[Any, ...], size: int) -> None:
        with pytest.raises(InvalidRequestError, match='"x"'):
            decode_raw(bytes(size), [self.spec(*shape)])

    def test_several_inputs(self) -> None:
        with pytest.raises(InvalidRequestError, match="one input"):
            decode_raw(bytes(16), [self.spec(4), self.spec(4)])


class TestParameters:
    def test_none(self) -> None:
        asked = ask(tensor([1, 2]))
        assert (asked.id, asked.outputs, asked.is_binary) == ("", (), False)
        assert (asked.timeout_us, asked.sequence) == (0, None)

    def test_id_and_timeout(self) -> None:
        asked = ask(tensor([1, 2]), id="a", parameters={"timeout": 5, "priority": 1, "mine": "x"})
        assert (asked.id, asked.timeout_us) == ("a", 5)
        assert ask(tensor([1, 2]), parameters={"timeout": "5"}).timeout_us == 5

    @pytest.mark.parametrize("name", ["timeout", "priority"])
    @pytest.mark.parametrize("value", [-1, 1.5, "soon", True, 2**63])
    def test_wrong_numbers(self, name: str, value: Any) -> None:
        assert name in refused(tensor([1, 2]), parameters={name: value})

    def test_outputs(self) -> None:
        wanted = [
            {"name": "a", "parameters": {"binary_data": True}},
            {"name": "b"},
            {"name": "c", "parameters": {"classification": 3}},
        ]
        assert ask(tensor([1, 2]), outputs=wanted).outputs == (
            Wanted("a", is_binary=True),
            Wanted("b", is_binary=False),
            Wanted("c", is_binary=False, classes=3),
        )
        by_default = ask(tensor([1, 2]), outputs=wanted, parameters={"binary_data_output": True})
        assert [one.is_binary for one in by_default.outputs] == [True, True, True]
        assert ask(tensor([1, 2]), outputs=[]).outputs == ()

    @pytest.mark.parametrize(
        ("parameters", "words"),
        [
            ({"binary_data": 1}, "binary_data"),
            ({"classification": -1}, "classification"),
            ({"classification": True}, "classification"),
            ({"shared_memory_region": "r"}, "shared_memory_byte_size"),
            ({"shared_memory_region": 3, "shared_memory_byte_size": 1}, "no name"),
            ({"shared_memory_region": "r", "shared_memory_byte_size": -1}, "from 0"),
            (
                {"shared_memory_region": "r", "shared_memory_byte_size": 1, "binary_data": True},
                "without classification",
            ),
            ({"shared_memory_region": "r", "shared_memory_byte_size": 1}, "is off"),
        ],
    )
    def test_wrong_outputs(self, parameters: dict[str, Any], words: str) -> None:
        wanted = [{"name": "a", "parameters": parameters}]
        assert words in refused(tensor([1, 2]), outputs=wanted)

    def test_an_output_twice(self) -> None:
        assert "twice" in refused(tensor([1, 2]), outputs=[{"name": "a"}, {"name": "a"}])

    def test_shared_memory(self) -> None:
        place = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
        assert "is off" in refused(tensor(parameters=place))
        assert "exactly one of" in refused(tensor([1, 2], parameters=place))
        assert "exactly one of" in refused(tensor(parameters={**place, "binary_data_size": 8}))

    def test_reserved_names(self) -> None:
        assert "reserved" in refused(tensor([1, 2]), parameters={"triton_x": 1})
        assert ask(tensor([1, 2]), parameters={"triton_enable_empty_final_response": True}).inputs

    @pytest.mark.parametrize("given_id", [7, "seven"])
    def test_sequences(self, given_id: Any) -> None:
        parameters = {"sequence_id": given_id, "sequence_start": True, "sequence_end": False}
        asked = ask(tensor([1, 2]), parameters=parameters)
        assert asked.sequence == SequenceStep(given_id, start=True, end=False)
        assert ask(tensor([1, 2]), parameters={"sequence_id": 0}).sequence is None

    @pytest.mark.parametrize("given_id", [-1, 1.5, True])
    def test_wrong_sequences(self, given_id: Any) -> None:
        assert "sequence_id" in refused(tensor([1, 2]), parameters={"sequence_id": given_id})
