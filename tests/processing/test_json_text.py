import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import DecodeError, InvalidRequestError, TooLargeError
from edged.processing.json_text import MAX_DEPTH, MAX_DIGITS, MAX_JSON_BYTES, parse_json


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "is empty"),
        (b"{", "not JSON"),
        (b'{"a": 1} x', "Extra data: line 1 column 10"),
        (b"\xff\xfe", "not UTF-8"),
        (b'\xef\xbb\xbf{"a":1}', "not JSON"),
        ("[1]".encode("utf-16"), "not UTF-8"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b'{"a":1,"a":2}', "key 'a' twice"),
        (b'{"x":{"b":1,"\\ud800":2,"\\ud800":3}}', r"'\\ud800' twice"),
        (b"[" * 100_000, "deeper than 32"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "deeper than 32"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "deeper than 32"),
        (b"[" + b"9" * (MAX_DIGITS + 1) + b"]", "more than 400 digits"),
        (b'["a' + b"\0" + b'"]', "control character"),
    ],
)
@pytest.mark.hostile("R10 one entry for JSON")
def test_refusals(payload, message):
    with pytest.raises(DecodeError, match=message):
        parse_json(payload)


def test_too_many_bytes():
    with pytest.raises(TooLargeError, match=str(MAX_JSON_BYTES)):
        parse_json(b" " * (MAX_JSON_BYTES + 1))


def test_brackets_and_digits_inside_text_do_not_count():
    text = "[" * 100 + '"\\' + "7" * 500
    assert parse_json(json.dumps([text] * 3).encode()) == [text] * 3


def test_the_deepest_that_is_allowed():
    parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


def test_hostile_quotes_cost_linear_time():
    """An unclosed string full of escaped quotes: a backtracking scanner needs hours for it."""
    payload = b"[" * 40 + b'\\"' * (MAX_JSON_BYTES // 2 - 40)
    before = time.process_time()
    with pytest.raises(DecodeError):
        parse_json(payload)
    assert time.process_time() - before < 5


@pytest.mark.hostile("R9 every list of a peer has caps of count and bytes")
def test_a_key_twice_among_many_costs_linear_time():
    """Counting each key would take half an hour for this one, and hold every other thread up."""
    keys = b",".join(b'"%d":1' % number for number in range(300_000))
    with pytest.raises(DecodeError, match="the key 'z' twice"):
        parse_json(b"{" + keys + b',"z":1,"z":2}')


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(payload):
    with contextlib.suppress(InvalidRequestError):
        parse_json(payload)


@given(st.text(alphabet='{}[]",:\\0123456789eE+-. \nNaInfitytruls', max_size=60))
def test_agrees_with_the_standard_parser(text):
    try:
        ours = parse_json(text.encode())
    except InvalidRequestError:
        return
    assert ours == json.loads(text)


_SHORT = [
    b'{"a":1,"a":2}', b'{"a":"x","a":"y"}', b'{"a":"x","a":1}', b'{"a":1,"b":"\\"","a":2}',
    b'{"a":-0}', b'{"a":-0.0}', b'{"a":1e999}', b'{"a":18446744073709551616}', b'{"a":"\xff"}',
    b'{"a":"\x01"}', b'{"a":NaN}', b'{"a":01}', b'{"a":1.}', b'{"a":1,}', b'{"\xed\xa0\x80":1}',
    b'{"a":{"b":1,"b":2}}', b'{"a":[1,"x"]}', b'{"a":true,"b":null,"":""}', b'[{"a":1,"a":2}]',
    b'{"a":"\\u0000"}', b' {"a":0.1e-400}\n', b'{"a":"{}:,"}',
]  # fmt: skip


@pytest.mark.parametrize("payload", _SHORT)
def test_short_objects_are_read_by_the_same_rules(payload):
    assert _read(payload) == _read(payload + b" " * MAX_DIGITS)


@given(st.lists(st.sampled_from([*b'{}[]":,\\', *b"ab01.-e ntru"]), max_size=40).map(bytes))
def test_whatever_is_short_is_read_by_the_same_rules(inside):
    for payload in (inside, b"{" + inside + b"}", b'{"a":' + inside + b',"b":1}'):
        assert _read(payload) == _read(payload + b" " * MAX_DIGITS)


def _read(payload):
    """The document with its types, or that it is refused: a longer one goes the strict way."""
    try:
        return repr(parse_json(payload))
    except InvalidRequestError as exc:
        return type(exc).__name__
