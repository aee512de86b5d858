"""Against recorded bytes, and against another library where there is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import DecodeError, InvalidRequestError, TooLargeError
from edged.protocol.sparkplug import MAX_BYTES, parse_sparkplug


def metric(name, datatype, value=b"", alias=None):
    body = b"" if name is None else b"\x0a" + bytes([len(name)]) + name.encode()
    if alias is not None:
        body += bytes([0x10, alias])
    body += bytes([0x20, datatype]) + value
    return b"\x12" + bytes([len(body)]) + body


STAMP = b"\x08\x80\xd0\x95\xff\xbc\x31"  # 1 700 000 000 000 ms


@pytest.mark.parametrize(
    ("payload", "document"),
    [
        (b"", {}),
        (STAMP, {"timestamp": 1_700_000_000_000}),
        (metric("Temp/In", 9, b"\x65\x00\x00\xc0\x3f"), {"Temp/In": 1.5}),
        (metric("t", 10, b"\x69" + b"\0" * 6 + b"\xf8\x3f"), {"t": 1.5}),
        (metric("n", 3, b"\x50\xff\xff\xff\xff\x0f"), {"n": -1}),
        (metric("n", 1, b"\x50\x80\x01"), {"n": -128}),
        (metric("n", 7, b"\x50\xff\xff\xff\xff\x0f"), {"n": 2**32 - 1}),
        (metric("n", 4, b"\x58" + b"\xff" * 9 + b"\x01"), {"n": -1}),
        (metric("n", 8, b"\x58" + b"\xff" * 9 + b"\x01"), {"n": 2**64 - 1}),
        (metric("on", 11, b"\x70\x01"), {"on": True}),
        (metric("s", 12, b"\x7a\x02hi"), {"s": "hi"}),
        (metric("gone", 9, b"\x38\x01"), {"gone": None}),
        (
            metric("a", 3, b"\x50\x07", alias=1) + metric("b", 3, b"\x50\x08") + b"\x18\x05",
            {"a": 7, "b": 8},
        ),
    ],
)
def test_known_bytes(payload, document):
    assert parse_sparkplug(payload) == document


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (metric(None, 3, b"\x50\x07", alias=7), "alias 7"),
        (metric("", 3, b"\x50\x07"), "without a name"),
        (metric("n", 0, b"\x50\x80\x01"), "may be negative"),
        (metric("a", 3, b"\x50\x07") * 2, "stands twice"),
        (metric("a", 9, b"\x65\x00\x00\xc0\x7f"), "nan"),
        (metric("a", 9, b"\x65\x00\x00\x80\x7f"), "inf"),
        (b"\x12\x05", "ends inside"),
    ],
)
def test_refused(payload, why):
    with pytest.raises(DecodeError, match=why):
        parse_sparkplug(payload)


def test_a_cap():
    with pytest.raises(TooLargeError):
        parse_sparkplug(bytes(MAX_BYTES + 1))


# What pysparkplug 0.6.1 makes of one set of metrics: t/1 (Float 1.5), n (Int16 -7), on (Boolean true)
# and s (String x), at 9. It wants an older paho than ours, and so cannot be installed beside it.
NDATA = bytes.fromhex(
    "0809120c0a03742f311801650000c03f12090a016e180150f9ff0312080a026f6e1801700112080a01731801"
    "7a01781803"
)
NBIRTH = bytes.fromhex(
    "0809120e0a03742f3118012009650000c03f120b0a016e1801200250f9ff03120a0a026f6e1801200b700112"
    "0a0a01731801200c7a01781800"
)


def test_what_another_library_writes():
    with pytest.raises(DecodeError, match="may be negative"):
        parse_sparkplug(NDATA)
    expected = {"t/1": 1.5, "n": -7, "on": True, "s": "x", "timestamp": 9}
    assert parse_sparkplug(NBIRTH) == expected


@given(st.binary(max_size=100))
def test_any_bytes_end_in_a_document_or_our_errors(data):
    try:
        parse_sparkplug(data)
    except InvalidRequestError:
        return
