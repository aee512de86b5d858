import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import DecodeError, InvalidRequestError, TooLargeError
from edged.processing.binary_document import MAX_BYTES, MAX_ITEMS
from edged.processing.json_text import MAX_DEPTH
from edged.processing.msgpack_data import encode_msgpack, parse_msgpack

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40)
    | st.binary(max_size=40)
)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda d: st.lists(d, max_size=40) | st.dictionaries(st.text(max_size=8), d),
    max_leaves=60,
)


@settings(max_examples=40)
@given(DOCUMENTS)
def test_what_is_written_is_read_again(document):
    assert parse_msgpack(encode_msgpack(document)) == document


@settings(max_examples=40)
@given(DOCUMENTS, st.booleans())
def test_it_is_what_another_library_writes(document, single):
    msgpack = pytest.importorskip("msgpack")
    payload = msgpack.packb(document, use_single_float=False)
    assert parse_msgpack(payload) == document == msgspec.msgpack.decode(payload)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7f", 127),
        ("e0", -32),
        ("d080", -128),
        ("d1ff7f", -129),
        ("d2ffff7fff", -32769),
        ("d38000000000000000", -(2**63)),
        ("cfffffffffffffffff", 2**64 - 1),
        ("ca3fc00000", 1.5),
        ("d90161", "a"),
        ("da000161", "a"),
        ("db0000000161", "a"),
        ("c50001ff", b"\xff"),
        ("dc00020102", [1, 2]),
        ("dd000000020102", [1, 2]),
        ("de0001a16101", {"a": 1}),
        ("df00000001a161c0", {"a": None}),
    ],
)
def test_known_bytes(text, value):
    assert parse_msgpack(bytes.fromhex(text)) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("ddffffffff", "cut short"),
        ("dfffffffff", "cut short"),
        ("dbffffffff", "cut short"),
        ("c6ffffffff", "cut short"),
        ("9101" + "00", "1 bytes follow"),
        ("c1", "an extension is not taken"),
        ("d6ff00000000", "an extension is not taken"),
        ("c70c05", "an extension is not taken"),
        ("810101", "a key is no text"),
        ("82a16101a16102", "'a' twice"),
        ("cb7ff8000000000000", "nan"),
        ("ca7f800000", "inf"),
        ("a1ff", "not UTF-8"),
    ],
)
def test_refused(text, why):
    with pytest.raises(DecodeError, match=why):
        parse_msgpack(bytes.fromhex(text))


def test_caps():
    with pytest.raises(TooLargeError, match="the limit is"):
        parse_msgpack(bytes(MAX_BYTES + 1))
    with pytest.raises(TooLargeError, match="more than"):
        parse_msgpack(b"\xdd" + (MAX_ITEMS + 1).to_bytes(4, "big") + bytes(MAX_ITEMS + 1))
    with pytest.raises(DecodeError, match="deeper than"):
        parse_msgpack(b"\x91" * 100_000)
    with pytest.raises(DecodeError, match="cut short"):
        parse_msgpack(b"\x91" * MAX_DEPTH)


@pytest.mark.parametrize("count", [15, 16, 400])
@pytest.mark.parametrize("last", [1.5, 7, None])
def test_long_lists_are_read_at_once_and_mean_the_same(count, last):
    values = [0.1 * i for i in range(count)] + [last]
    assert parse_msgpack(encode_msgpack(values)) == values


@settings(max_examples=40)
@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_document_or_our_errors(data):
    try:
        parse_msgpack(data)
    except InvalidRequestError:
        return
