import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import DecodeError, InvalidRequestError, TooLargeError
from edged.processing.binary_document import MAX_BYTES, MAX_ITEMS
from edged.processing.cbor_data import encode_cbor, parse_cbor
from edged.processing.json_text import MAX_DEPTH

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40)
)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda d: st.lists(d, max_size=40) | st.dictionaries(st.text(max_size=8), d),
    max_leaves=60,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # RFC 8949, appendix A
        ("00", 0),
        ("17", 23),
        ("1818", 24),
        ("1903e8", 1000),
        ("1a000f4240", 1000000),
        ("1bffffffffffffffff", 18446744073709551615),
        ("3bffffffffffffffff", -18446744073709551616),
        ("20", -1),
        ("3903e7", -1000),
        ("f90000", 0.0),
        ("f93e00", 1.5),
        ("fa47c35000", 100000.0),
        ("fb3ff199999999999a", 1.1),
        ("f4", False),
        ("f5", True),
        ("f6", None),
        ("f7", None),
        ("4401020304", b"\1\2\3\4"),
        ("6449455446", "IETF"),
        ("62c3bc", "ü"),
        ("83010203", [1, 2, 3]),
        ("8301820203820405", [1, [2, 3], [4, 5]]),
        ("a26161016162820203", {"a": 1, "b": [2, 3]}),
        ("5f42010243030405ff", b"\1\2\3\4\5"),
        ("7f657374726561646d696e67ff", "streaming"),
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
        ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
        ("d9d9f7a0", {}),
        # RFC 8746: float32 little-endian, int16 big-endian, uint8
        ("d85548cdcccc3d0000803f", [float(np.float32(0.1)), 1.0]),
        ("d849440001fffe", [1, -2]),
        ("d84043010203", [1, 2, 3]),
    ],
)
def test_known_bytes(text, value):
    assert parse_cbor(bytes.fromhex(text)) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("18", "cut short"),
        ("62c3", "cut short"),
        ("9bffffffffffffffff", "cut short"),
        ("bbffffffffffffffff", "cut short"),
        ("5bffffffffffffffff", "cut short"),
        ("9f01", "cut short"),
        ("0000", "1 bytes follow"),
        ("f97e00", "nan"),
        ("f97c00", "inf"),
        ("fb7ff0000000000000", "inf"),
        ("61ff", "not UTF-8"),
        ("7f61ffff", "not UTF-8"),
        ("7f01ff", "part of a string"),
        ("7f7f61ffffff", "part of a string"),
        ("a10102", "a key is no text"),
        ("a2616101616102", "'a' twice"),
        ("c11a514b67b0", "tag 1 is not taken"),
        ("d82341fa", "tag 35 is not taken"),
        ("81d9d9f700", "tag 55799 is not taken"),
        ("d8554100", "4-byte numbers"),
        ("d85500", "4-byte numbers"),
        ("d855440000c07f", "NaN or infinity"),
        ("1c", "means nothing"),
        ("3f", "means nothing"),
        ("ff", "means nothing"),
        ("f820", "means nothing"),
    ],
)
def test_refused(text, why):
    with pytest.raises(DecodeError, match=why):
        parse_cbor(bytes.fromhex(text))


@pytest.mark.parametrize("level", [b"\x81", b"\x9f", b"\xa1\x61a", b"\xbf\x61a"])
def test_depth(level):
    with pytest.raises(DecodeError, match="deeper than"):
        parse_cbor(level * 100_000)
    with pytest.raises(DecodeError, match="cut short"):
        parse_cbor(level * MAX_DEPTH)


def test_caps():
    with pytest.raises(TooLargeError, match="the limit is"):
        parse_cbor(bytes(MAX_BYTES + 1))
    for payload in (
        b"\x9f" + bytes(MAX_ITEMS),
        b"\x9a" + (MAX_ITEMS + 1).to_bytes(4, "big") + bytes(MAX_ITEMS + 1),
        b"\xd8\x40\x5a" + (MAX_ITEMS + 1).to_bytes(4, "big") + bytes(MAX_ITEMS + 1),
    ):
        with pytest.raises(TooLargeError, match="more than"):
            parse_cbor(payload)


@pytest.mark.parametrize("count", [3, 16, 17, 500])
@pytest.mark.parametrize("last", [1.5, 0.1, 7, None, "x"])
def test_long_lists_are_read_at_once_and_mean_the_same(count, last):
    values = [0.1 * i for i in range(count)] + [last]
    assert parse_cbor(encode_cbor(values)) == values


def test_a_list_of_floats_with_nan_is_refused_when_read_at_once():
    payload = b"\x98\x14" + b"\xfb\x3f\xf0\0\0\0\0\0\0" * 19 + b"\xfb\x7f\xf8\0\0\0\0\0\0"
    with pytest.raises(DecodeError, match="NaN"):
        parse_cbor(payload)


@settings(max_examples=40)
@given(DOCUMENTS)
def test_what_is_written_is_read_again(document):
    assert parse_cbor(encode_cbor(document)) == document


@settings(max_examples=40)
@given(DOCUMENTS, st.booleans())
def test_it_is_what_another_library_reads_and_writes(document, canonical):
    cbor2 = pytest.importorskip("cbor2")
    assert cbor2.loads(encode_cbor(document)) == document
    assert parse_cbor(cbor2.dumps(document, canonical=canonical)) == document


@settings(max_examples=40)
@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_document_or_our_errors(data):
    try:
        value = parse_cbor(data)
    except InvalidRequestError:
        return
    assert not (isinstance(value, float) and not math.isfinite(value))
