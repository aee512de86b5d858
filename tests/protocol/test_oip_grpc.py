"""Inference requests and answers over gRPC."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from edged.errors import DecodeError, DeniedError, InvalidRequestError, TooLargeError
from edged.messages import InferResponse, SequenceStep
from edged.protocol.oip_grpc import (
    Inference,
    decode_infer,
    encode_infer,
    in_stream,
    release_of,
    stream_error,
)
from edged.protocol.oip_messages import INFER_REQUEST, INFER_RESPONSE, STREAM_RESPONSE
from edged.protocol.oip_request import Asked, Wanted
from edged.protocol.protobuf import decode, encode, few
from edged.tensors import DTYPES
from tests.compat.echo import sample
from tests.protocol.test_oip_shared import Regions

X = np.float32([[1, 2, 3]])
CONTENTS = {
    "bool": "bool_contents", "int8": "int_contents", "int16": "int_contents",
    "int32": "int_contents", "int64": "int64_contents", "uint8": "uint_contents",
    "uint16": "uint_contents", "uint32": "uint_contents", "uint64": "uint64_contents",
    "float32": "fp32_contents", "float64": "fp64_contents",
}  # fmt: skip


def tensor(array: Any = X, name: str = "x", **changes: Any) -> dict[str, Any]:
    entry = {
        "name": name, "datatype": DTYPES[array.dtype.name].oip, "shape": list(array.shape),
    }  # fmt: skip
    return {**entry, **changes}


def request(*inputs: dict[str, Any], raw: Any = None, cap: int = 1 << 20, **more: Any) -> Inference:
    document = {"model_name": "m", "inputs": inputs or [tensor()], **more}
    if raw is None and not inputs:
        raw = [X.tobytes()]
    if raw is not None:
        document["raw_input_contents"] = raw
    return decode_infer(encode(INFER_REQUEST, document), cap)


class TestRequests:
    def test_plain(self) -> None:
        found = request(id="a", model_version="7")
        assert (found.model, found.release, found.asked.id) == ("m", 7, "a")
        np.testing.assert_array_equal(found.asked.inputs["x"], X)
        assert found.asked.outputs == ()
        assert (found.asked.timeout_us, found.asked.sequence) == (0, None)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_type_as_bytes(self, dtype: str) -> None:
        array = sample(2, dtype)
        found = request(tensor(array), raw=[array.tobytes()]).asked.inputs["x"]
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype

    @pytest.mark.parametrize("dtype", CONTENTS)
    def test_every_type_as_numbers(self, dtype: str) -> None:
        array = sample(2, dtype)
        contents = {CONTENTS[dtype]: array.reshape(-1).tolist()}
        found = request(tensor(array, contents=contents)).asked.inputs["x"]
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype

    def test_nothing_at_all_is_a_tensor_too(self) -> None:
        empty = np.zeros((0, 3), np.float32)
        assert request(tensor(empty)).asked.inputs["x"].shape == (0, 3)
        assert request(tensor(empty), raw=[b""]).asked.inputs["x"].shape == (0, 3)

    def test_bytes_are_not_copied(self) -> None:
        # At an odd address elements of one byte are left where they are, others may be copied.
        entry = tensor(np.int8([[1, 2, 3]]))
        message = encode(INFER_REQUEST, {"inputs": [entry], "raw_input_contents": [b"abc"]})
        found = decode_infer(message, 100)
        assert np.shares_memory(found.asked.inputs["x"], np.frombuffer(message, np.uint8))
        assert [bytes(raw) for raw in found.raw] == [b"abc"]

    def test_outputs(self) -> None:
        outputs = [
            {"name": "a"}, {"name": "b", "parameters": {"classification": {"int64": 3}}},
        ]  # fmt: skip
        wanted = request(outputs=outputs).asked.outputs
        assert wanted == (Wanted("a", is_binary=True), Wanted("b", is_binary=True, classes=3))

    def test_parameters(self) -> None:
        parameters = {
            "timeout": {"int64": 5000}, "priority": {"uint64": 2}, "sequence_id": {"string": "s"},
            "sequence_start": {"bool": True}, "sequence_end": {"bool": False},
        }  # fmt: skip
        asked = request(parameters=parameters).asked
        assert asked.timeout_us == 5000
        ask = {"triton_enable_empty_final_response": {"bool": True}}
        assert request(parameters=ask).wants_end
        assert not request().wants_end
        assert asked.sequence == SequenceStep("s", start=True)

    @pytest.mark.hostile("C2 another number of raw contents than of inputs")
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"raw": [b"1234"]}, "4 bytes in raw_input_contents, but FP32 of shape"),
            ({"raw": [b"", b""]}, "2 entries for 1 inputs"),
            ({"parameters": {"timeout": {"int64": -1}}}, "timeout"),
            ({"parameters": {"triton_x": {"bool": True}}}, "reserved"),
            ({"parameters": {"x": {}}}, "has no value"),
            ({"model_version": "latest"}, "expected a number"),
            ({"model_version": "-1"}, "expected a number"),
            ({"id": "x" * 1025}, "longer than 1024"),
            ({"outputs": [{"name": "a"}, {"name": "a"}]}, "asked for twice"),
            ({"outputs": [{"name": ""}]}, "name of 0 characters"),
            ({"outputs": [{"name": "a"}] * 65}, "more than 64"),
        ],
    )
    def test_refused(self, changes: dict[str, Any], words: str) -> None:
        with pytest.raises(InvalidRequestError, match=words):
            request(**changes)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"datatype": "FP31"}, 'datatype "FP31" is not served'),
            ({"datatype": ""}, "is not served"),
            ({"shape": [1, -3]}, "out of range"),
            ({"shape": [1, 1 << 40]}, "out of range"),
            ({"shape": [1] * 9}, "more than 8 values"),
            ({"name": "n" * 257}, "expected 1 to 256"),
            ({"parameters": {"shared_memory_region": {"string": "r"}}}, "shared_memory_byte_size"),
            ({"contents": {}, "shape": [1, 2]}, "0 values; its shape has 2"),
            ({"contents": {"fp64_contents": [1, 2, 3]}}, "comes in contents.fp32_contents, not in"),
            ({"contents": {"fp32_contents": [1, 2]}}, "Unable to parse contents.fp32_contents"),
            ({"datatype": "INT8", "contents": {"int_contents": [1, 2, 128]}}, "-128 to 127"),
            ({"datatype": "FP16"}, "has no typed contents"),
        ],
    )
    def test_refused_tensors(self, changes: dict[str, Any], words: str) -> None:
        with pytest.raises(InvalidRequestError, match=words):
            request(tensor(**changes))

    def test_two_of_one_name(self) -> None:
        with pytest.raises(InvalidRequestError, match="given twice"):
            request(tensor(), tensor(), raw=[X.tobytes()] * 2)

    @pytest.mark.hostile("C1 raw and typed contents together")
    def test_both_forms_in_one(self) -> None:
        entry = tensor(contents={"fp32_contents": [1, 2, 3]})
        with pytest.raises(InvalidRequestError, match="expected one of them"):
            request(entry, raw=[X.tobytes()])

    def test_a_truth_that_is_neither(self) -> None:
        entry = tensor(np.zeros((1, 2), bool))
        with pytest.raises(InvalidRequestError, match="0 or 1"):
            request(entry, raw=[b"\x01\x02"])

    def test_more_than_the_limit(self) -> None:
        with pytest.raises(TooLargeError, match="may still take 11"):
            request(cap=11)
        many = {"shape": [1 << 24], "contents": {"fp32_contents": [1]}}
        with pytest.raises(TooLargeError, match="typed contents"):
            request(tensor(**many), cap=1 << 30)
        with pytest.raises(TooLargeError, match="may still take"):
            request(tensor(shape=[1 << 31, 1 << 31, 1 << 31]), raw=[b""])

    def test_a_message_that_is_none(self) -> None:
        with pytest.raises(DecodeError, match="Unable to parse"):
            decode_infer(b"\x0a\x50m", 100)


class TestAnswers:
    def read(self, parts: list[Any]) -> dict[str, Any]:
        found = decode(INFER_RESPONSE, b"".join(parts))
        for entry in found["outputs"]:
            entry["shape"] = few(entry["shape"], 8)
        found["raw_output_contents"] = [bytes(raw) for raw in found["raw_output_contents"]]
        return found

    def answer(self, *outputs: Wanted, asked_id: str = "", **arrays: Any) -> list[Any]:
        response = InferResponse("m", 3, 1, arrays)
        asked = Asked(asked_id, {}, outputs, is_binary=True)
        return encode_infer(asked, response, {"y": ("cat", "dog", "eel")})

    def test_plain(self) -> None:
        found = self.read(self.answer(y=X, z=np.int8([5, 6]), asked_id="a"))
        assert found == {
            "model_name": "m",
            "model_version": "3",
            "id": "a",
            "outputs": [
                {"name": "y", "datatype": "FP32", "shape": [1, 3]},
                {"name": "z", "datatype": "INT8", "shape": [2]},
            ],
            "raw_output_contents": [X.tobytes(), b"\x05\x06"],
        }

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_type(self, dtype: str) -> None:
        array = sample(2, dtype)
        found = self.read(self.answer(y=array))
        assert found["raw_output_contents"] == [array.tobytes()]
        assert found["outputs"][0]["datatype"] == DTYPES[dtype].oip

    def test_an_entry_for_each_output_be_it_empty(self) -> None:
        found = self.read(self.answer(y=np.zeros((0, 2), np.float32), z=X))
        assert found["raw_output_contents"] == [b"", X.tobytes()]

    def test_classes(self) -> None:
        found = self.read(self.answer(Wanted("y", is_binary=True, classes=2), y=X))
        (entry,) = found["outputs"]
        assert (entry["datatype"], entry["shape"]) == ("BYTES", [1, 2])
        first, second = b"3.000000:2:eel", b"2.000000:1:dog"
        blob = b"".join(len(one).to_bytes(4, "little") + one for one in (first, second))
        assert found["raw_output_contents"] == [blob]

    def test_in_a_stream(self) -> None:
        parts = in_stream(self.answer(y=X))
        found = decode(STREAM_RESPONSE, b"".join(parts))["infer_response"]
        assert bytes(found["raw_output_contents"][0]) == X.tobytes()
        wrong = decode(STREAM_RESPONSE, b"".join(stream_error("broke", "a")))
        assert wrong == {"error_message": "broke", "infer_response": {"id": "a"}}
        assert decode(STREAM_RESPONSE, b"".join(stream_error("x", ""))) == {"error_message": "x"}

    def test_parameters(self) -> None:
        response = InferResponse("m", 3, 1, {"y": X})
        parts = encode_infer(Asked("", {}, (), is_binary=True), response, {}, is_end=False)
        assert self.read(parts)["parameters"] == {"triton_final_response": {"bool": False}}


@pytest.mark.parametrize("version", ["7x", "\u0667", "1" * 10, "-1", " 1"])
def test_versions(version: str) -> None:
    with pytest.raises(InvalidRequestError, match="expected a number"):
        release_of({"version": version})
    assert release_of({}) is None
    assert release_of({"version": "12"}) == 12


class TestPlaces:
    """Tensors in the client's memory, between those that are sent."""

    PLACE: ClassVar[dict[str, Any]] = {
        "shared_memory_region": {"string": "r"}, "shared_memory_byte_size": {"int64": 12},
        "shared_memory_offset": {"int64": 4},
    }  # fmt: skip

    def read(self, *inputs: dict[str, Any], memory: Regions | None, **more: Any) -> Inference:
        document = {"model_name": "m", "inputs": inputs, **more}
        return decode_infer(encode(INFER_REQUEST, document), 1 << 20, memory)

    def test_between_those_that_are_sent(self) -> None:
        memory = Regions(bytes(4) + X.tobytes())
        inputs = (tensor(name="a"), tensor(name="b", parameters=self.PLACE), tensor(name="c"))
        raw = [X.tobytes(), (X * 3).tobytes()]
        found = self.read(*inputs, memory=memory, raw_input_contents=raw).asked.inputs
        for name, times in (("a", 1), ("b", 1), ("c", 3)):
            np.testing.assert_array_equal(found[name], X * times)
        for wrong in (raw[:1], [*raw, b""]):
            with pytest.raises(InvalidRequestError, match="for 2 inputs"):
                self.read(*inputs, memory=memory, raw_input_contents=wrong)

    def test_beside_typed_contents(self) -> None:
        memory = Regions(bytes(4) + X.tobytes())
        typed = {"fp32_contents": [3, 2, 1]}
        inputs = (tensor(name="a", parameters=self.PLACE), tensor(name="b", contents=typed))
        found = self.read(*inputs, memory=memory).asked.inputs
        assert (found["a"].tolist(), found["b"].tolist()) == (X.tolist(), [[3, 2, 1]])
        with pytest.raises(InvalidRequestError, match="expected one of them"):
            self.read(tensor(contents=typed, parameters=self.PLACE), memory=memory)

    def test_while_it_is_off(self) -> None:
        with pytest.raises(DeniedError, match=r"listen\.shared_memory"):
            self.read(tensor(parameters=self.PLACE), memory=None)
        outputs = [{"name": "y", "parameters": self.PLACE}]
        with pytest.raises(DeniedError, match=r"listen\.shared_memory"):
            self.read(tensor(), memory=None, outputs=outputs, raw_input_contents=[X.tobytes()])

    def test_an_output(self) -> None:
        memory = Regions(bytes(16))
        outputs = [{"name": "y", "parameters": self.PLACE}, {"name": "z"}]
        asked = self.read(
            tensor(), memory=memory, outputs=outputs, raw_input_contents=[X.tobytes()]
        ).asked
        response = InferResponse("m", 1, 0, {"y": X, "z": X * 2})
        parts = encode_infer(asked, response, {})
        said = decode(INFER_RESPONSE, b"".join(bytes(part) for part in parts))
        assert bytes(memory.data[4:]) == X.tobytes()
        assert [bytes(one) for one in said["raw_output_contents"]] == [b"", (X * 2).tobytes()]
        assert said["outputs"][0]["parameters"] == self.PLACE
        assert "parameters" not in said["outputs"][1]
