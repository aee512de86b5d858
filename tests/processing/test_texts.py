"""Strings in tensors."""

from __future__ import annotations

import numpy as np

from edged.processing.texts import pack_texts, unpack_texts


def test_strings_are_rows_of_bytes():
    assert pack_texts([]).shape == (0, 1)
    assert pack_texts([b""]).tolist() == [[0]]
    assert unpack_texts(pack_texts([b"ab", b""])) == ["ab", ""]
    assert unpack_texts(np.array([[[65, 0], [66, 67]]], np.uint8)) == [["A", "BC"]]
    assert unpack_texts(np.array([255, 65, 0], np.uint8)) == "\ufffdA"
