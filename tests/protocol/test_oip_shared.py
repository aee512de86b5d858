"""Places in memory that has a name: what a request says of them, and what an answer does."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import DeniedError, InvalidRequestError, NotFoundError
from edged.messages import InferResponse
from edged.protocol import oip_shared
from edged.protocol.frames import Buffer
from edged.protocol.oip_answer import encode_response
from edged.protocol.oip_request import decode_request
from edged.protocol.oip_shared import Place, Region, place_of
from edged.strings import encode_strings, strings
from edged.tensors import DTYPES


class Regions:
    """One region in a bytearray."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)

    def register(self, region: Region) -> None:
        raise NotImplementedError

    def unregister(self, name: str | None) -> None:
        raise NotImplementedError

    def status(self, name: str | None) -> list[Region]:
        raise NotImplementedError

    def read(self, place: Place) -> Buffer:
        if place.region != "r":
            raise NotFoundError("Unable to find shared memory region")
        return bytes(self.data[place.offset : place.offset + place.size])

    def write(self, place: Place, data: Buffer) -> None:
        self.data[place.offset : place.offset + len(data)] = bytes(data)


def at(offset: int, size: int, region: str = "r") -> dict[str, Any]:
    found: dict[str, Any] = {"shared_memory_region": region, "shared_memory_byte_size": size}
    return found if not offset else {**found, "shared_memory_offset": offset}


def ask(
    memory: Regions | None, datatype: str, shape: list[int], outputs: Any = (), **more: Any
) -> Any:
    x = {"name": "x", "shape": shape, "datatype": datatype, "parameters": more}
    body = json.dumps({"inputs": [x], "outputs": list(outputs)}).encode()
    return decode_request(body, None, 1 << 16, memory)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_inputs(dtype: Any) -> None:
    array = (np.arange(6) % 2).astype(dtype.numpy)
    memory = Regions(bytes(3) + array.tobytes())
    found = ask(memory, dtype.oip, [2, 3], **at(3, array.nbytes)).inputs["x"]
    assert found.tolist() == array.reshape(2, 3).tolist()
    memory.data[:] = bytes(len(memory.data))
    assert found.tolist() == array.reshape(2, 3).tolist()  # a copy


def test_strings() -> None:
    words = strings([b"a", b"\xff", b""], (3,))
    data = encode_strings(words)
    found = ask(Regions(data), "BYTES", [3], **at(0, len(data))).inputs["x"]
    assert found.tolist() == words.tolist()
    with pytest.raises(InvalidRequestError, match="follow its last string"):
        ask(Regions(data + b"more"), "BYTES", [3], **at(0, len(data) + 4))
    with pytest.raises(InvalidRequestError, match="max_request"):
        ask(Regions(data), "BYTES", [3], **at(0, 1 << 40))


def test_bytes_that_are_not_the_shape_s() -> None:
    with pytest.raises(InvalidRequestError, match="shared_memory_byte_size is 7, but FP32"):
        ask(Regions(bytes(8)), "FP32", [2], **at(0, 7))
    with pytest.raises(InvalidRequestError, match="a BOOL byte is 0 or 1"):
        ask(Regions(b"\2"), "BOOL", [1], **at(0, 1))
    with pytest.raises(NotFoundError):
        ask(Regions(bytes(8)), "FP32", [2], **at(0, 8, "q"))
    with pytest.raises(DeniedError, match="is off"):
        ask(None, "FP32", [2], **at(0, 8))


def test_outputs() -> None:
    memory = Regions(bytes(20))
    outputs = [{"name": "y", "parameters": at(4, 16)}, {"name": "z"}]
    asked = ask(memory, "FP32", [2], outputs, **at(0, 8))
    y, z = np.float32([[1, 2]]), np.int8([7])
    body = encode_response(asked, InferResponse("m", 1, 1, {"y": y, "z": z}), {})
    assert bytes(memory.data) == bytes(4) + y.tobytes() + bytes(8)
    document = json.loads(bytes(body.parts[0]))
    assert document["outputs"] == [
        {
            "name": "y",
            "datatype": "FP32",
            "shape": [1, 2],
            "parameters": {**at(4, 8), "binary_data_size": 0},
        },
        {"name": "z", "datatype": "INT8", "shape": [1], "data": [7]},
    ]
    assert body.json_bytes == 0
    with pytest.raises(DeniedError, match="is off"):
        decode_request(
            json.dumps(
                {
                    "inputs": [{"name": "x", "shape": [1], "datatype": "INT8", "data": [1]}],
                    "outputs": outputs,
                }
            ).encode(),
            None,
            99,
        )


NUMBER = st.integers() | st.booleans() | st.text(max_size=3) | st.floats(allow_nan=False)


@given(
    st.dictionaries(
        st.sampled_from([oip_shared.REGION, oip_shared.SIZE, oip_shared.OFFSET]), NUMBER
    )
)
def test_any_parameters_are_read_or_refused(parameters: dict[str, Any]) -> None:
    try:
        found = place_of(parameters, "x")
    except InvalidRequestError:
        return
    assert found is None or (found.region and found.offset >= 0 <= found.size)
