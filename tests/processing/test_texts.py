"""Strings in tensors."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import DecodeError, FieldError, TooLargeError
from edged.processing.texts import TextCodec, pack_json, pack_texts, unpack_texts
from edged.processing.values import MAX_ROWS
from edged.tensors import TensorSpec

TEXTS = TensorSpec("t", "uint8", ("batch", "characters"))
ONE = TensorSpec("t", "uint8", ("characters",))
PAIRS = TensorSpec("t", "uint8", ("batch", 2, 4))


def test_strings_are_rows_of_bytes():
    assert pack_texts([]).shape == (0, 1)
    assert pack_texts([b""]).tolist() == [[0]]
    assert unpack_texts(pack_texts([b"ab", b""])) == ["ab", ""]
    assert unpack_texts(np.array([[[65, 0], [66, 67]]], np.uint8)) == [["A", "BC"]]
    assert unpack_texts(np.array([255, 65, 0], np.uint8)) == "\ufffdA"


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))), min_size=1
    )
)
def test_any_strings_come_back(texts: list[str]):
    assert unpack_texts(pack_json(TEXTS, texts)) == texts


def test_shapes():
    assert pack_json(TEXTS, "so").tolist() == [[115, 111]]
    assert pack_json(ONE, "so").tolist() == [115, 111]
    assert pack_json(ONE, "").tolist() == [0]
    assert pack_json(PAIRS, ["a", "b"]).shape == (1, 2, 4)
    assert unpack_texts(pack_json(PAIRS, [["a", "b"], ["c", ""]])) == [["a", "b"], ["c", ""]]


@pytest.mark.hostile("H9 texts of half a character, another code, zeros within, or megabytes")
@pytest.mark.parametrize(
    ("spec", "value", "said"),
    [
        (TEXTS, [], "an empty list holds no rows"),
        (TEXTS, [["a"]], r"expected texts for uint8\[batch,characters\]; got lists of \[1, 1\]"),
        (TEXTS, ["a", ["b"]], "text 1: expected text"),
        (TEXTS, [["a"], "b"], "ragged"),
        (TEXTS, ["a", 3], 'input "t", text 1: expected text'),
        (TEXTS, None, "expected text"),
        (TEXTS, {"a": 1}, "expected text"),
        (TEXTS, ["ok\ud800"], r"half a character \(a lone surrogate\) at 2"),
        (ONE, ["a"], "got lists of"),
        (PAIRS, ["a", "b", "c"], "got lists of"),
        (PAIRS, ["a", "abcde"], "a text of 5 bytes"),
    ],
)
def test_no_texts(spec: TensorSpec, value, said: str):
    with pytest.raises(DecodeError, match=said):
        pack_json(spec, value)


@pytest.mark.hostile("H9 texts of half a character, another code, zeros within, or megabytes")
def test_one_long_text_among_short_ones_fills_no_gigabytes():
    with pytest.raises(TooLargeError, match="would take 4096000000 side by side; the limit is"):
        pack_json(TEXTS, ["a" * 1_000_000, *[""] * 4095])
    with pytest.raises(TooLargeError, match="4097 rows"):
        pack_json(TEXTS, ["a"] * (MAX_ROWS + 1))
    wide = TensorSpec("t", "uint8", ("batch", 1 << 20))
    with pytest.raises(TooLargeError, match="side by side"):
        pack_json(wide, ["a"] * 17)


def test_a_field_of_each_object():
    codec = TextCodec(TEXTS, ["a.b"])
    assert not codec.is_slow
    rows = [{"a": {"b": "x"}}, {"a": {"b": "yz"}}]
    assert unpack_texts(codec.decode(json.dumps(rows).encode())["t"]) == ["x", "yz"]
    for payload in (b"[]", b"3", b'["x"]', b'{"a": "x"}'):
        with pytest.raises(DecodeError):
            codec.decode(payload)
    with pytest.raises(FieldError, match="2 fields"):
        TextCodec(TEXTS, ["a", "b"])
