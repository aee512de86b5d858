"""Long JSON: what it may have beside its tensors, and how much of it they may be."""

from __future__ import annotations

import pytest

from edged.errors import DecodeError, EdgedError, TooLargeError
from edged.protocol.oip_outline import MOST_TENSORS, SHORT_BYTES, check_outline, check_short
from edged.protocol.oip_request import decode_request
from edged.protocol.oip_settings import check_load, check_trace, level_of
from edged.protocol.oip_tensor import MOST_IN_JSON

CAP = 64 << 20
INPUT = '{"name":"x","shape":[1],"datatype":"FP32","data":[1]}'
MANY = 20_000


def many(one: str, count: int = MANY) -> str:
    return ",".join(one.replace("%", str(at)) for at in range(count))


def inputs(*entries: str, more: str = "") -> bytes:
    return f'{{"inputs":[{",".join(entries or (INPUT,))}]{more}}}'.encode()


LONG = {
    "parameters": inputs(more=f',"parameters":{{{many(chr(34) + "p%" + chr(34) + ":1")}}}'),
    "parameters of an input": inputs(
        INPUT[:-1] + f',"parameters":{{{many(chr(34) + "p%" + chr(34) + ":1")}}}}}'
    ),
    "outputs": inputs(more=f',"outputs":[{many("{}")}]'),
    "a shape": inputs(INPUT.replace('"shape":[1]', f'"shape":[{many("1")}]')),
    "an id": inputs(more=f',"id":"{"x" * SHORT_BYTES}"'),
    "a name": inputs(INPUT.replace('"x"', f'"{"x" * SHORT_BYTES}"')),
    "what nobody knows": inputs(more=f',"x":[{many("1")}]'),
    "spaces": inputs() + b" " * SHORT_BYTES,
    "data twice": inputs(INPUT[:-1] + f',"data":[{many("1")}],"data":[1]}}'),
}


@pytest.mark.parametrize("body", LONG.values(), ids=LONG)
def test_long_beside_its_tensors(body: bytes) -> None:
    with pytest.raises(TooLargeError, match=rf"beside the data .* may have {SHORT_BYTES}"):
        decode_request(body, None, CAP)


def test_inputs_past_the_last_one_are_not_read() -> None:
    # Not even those that are no JSON: so a million of them cost what 64 do.
    body = inputs(*[INPUT] * MOST_TENSORS, "{}", many("?"))
    assert len(body) > SHORT_BYTES
    with pytest.raises(DecodeError, match=f"at most length {MOST_TENSORS}"):
        check_outline(body)


def test_long_data_is_read() -> None:
    asked = decode_request(inputs(INPUT.replace("[1]", f"[{MANY}]", 1).replace(
        '"data":[1]', f'"data":[{many("1.5")}]')), None, CAP)  # fmt: skip
    assert asked.inputs["x"].shape == (MANY,)


def test_64_inputs_with_long_names_are_short() -> None:
    entries = [INPUT.replace('"x"', f'"{at:0256}"') for at in range(MOST_TENSORS)]
    assert len(decode_request(inputs(*entries), None, CAP).inputs) == MOST_TENSORS


@pytest.mark.parametrize("body", [b"[" * (SHORT_BYTES + 1), b"?" * (SHORT_BYTES + 1)])
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises(DecodeError, match="Unable to parse"):
        check_outline(body)


def tensor(datatype: str, shape: str, data: str) -> bytes:
    return inputs(f'{{"name":"x","shape":[{shape}],"datatype":"{datatype}","data":[{data}]}}')


def test_more_elements_than_are_taken_in_json() -> None:
    most = MOST_IN_JSON + 1
    with pytest.raises(TooLargeError, match="send it as binary data"):
        decode_request(tensor("UINT8", str(most), "1" + ",1" * (most - 1)), None, CAP)


def test_lists_count_too() -> None:
    # Each is an object, elements or none.
    rows = MOST_IN_JSON // 4
    with pytest.raises(TooLargeError, match="send it as binary data"):
        decode_request(tensor("UINT8", f"{rows},0", "[]" + ",[]" * (rows - 1)), None, CAP)


@pytest.mark.parametrize(
    "number", ["1e308", "2.2250738585072014e-308", "5E-0324", f"0.{'0' * 300}1"]
)
def test_many_numbers_that_take_long(number: str) -> None:
    # A decoder takes 20 us for each: two millions of them would be most of a minute.
    few, lots = (tensor("FP64", str(n), many(number, n)) for n in (1024, 1100))
    assert decode_request(few, None, CAP).inputs["x"].shape == (1024,)
    with pytest.raises(TooLargeError, match="exponents beyond 99"):
        decode_request(lots, None, CAP)


def test_many_small_numbers_are_taken() -> None:
    asked = decode_request(tensor("FP64", "5000", many("1.2345678901234567e-99", 5000)), None, CAP)
    assert asked.inputs["x"][0] == 1.2345678901234567e-99


@pytest.mark.parametrize("read", [check_load, check_trace, lambda body: level_of(body, "info")])
def test_settings_are_short(read: object) -> None:
    body = f'{{"parameters":{{{many(chr(34) + "p%" + chr(34) + ":1")}}}}}'.encode()
    with pytest.raises(EdgedError, match=f"without tensors it may have {SHORT_BYTES}"):
        read(body)  # type: ignore[operator]
    check_short(b"x" * SHORT_BYTES)
