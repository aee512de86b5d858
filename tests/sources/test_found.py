"""Documents and sizes that somebody else states."""

from __future__ import annotations

import pytest

from edged.errors import BundleError
from edged.sources.found import check_size, parse_object


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"1", b'{"a": NaN}', b"[" * 100_000, b"\xff"])
def test_no_object(data: bytes):
    with pytest.raises(BundleError, match="x: "):
        parse_object(data, "x")
    assert parse_object(b'{"a": 1}', "x") == {"a": 1}


@pytest.mark.parametrize("size", [None, "5", 0, -1, True, 1.5, 101, 2**70])
def test_no_size(size: object):
    with pytest.raises(BundleError, match=r"states no size|max_bytes"):
        check_size(size, 100, "x")
    assert check_size(100, 100, "x") == 100
