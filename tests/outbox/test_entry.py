"""Records: whole or not there, whatever lies around them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.outbox.age import Moment
from edged.outbox.entry import Entry, Policy, decode_at, encode, is_too_old, scan, wanted_bytes

BOOT = b"8 bytes."
SALT = 0x1234_5678


def entry(sequence: int, data: bytes = b"payload", key: bytes = b"a/b") -> Entry:
    return Entry(key, data, Moment(BOOT, 7, 9), 60, Policy.LATEST_ONLY, b"i" * 16, sequence)


def log(*entries: Entry) -> bytes:
    return b"".join(encode(one, SALT) for one in entries)


def found(data: bytes) -> list[int]:
    return [one.entry.sequence for one in scan(data, 0, SALT, BOOT) if one.entry is not None]


def test_there_and_back() -> None:
    data = log(entry(1), entry(2, b"", b""))
    assert len(data) == entry(1).size_bytes + entry(2, b"", b"").size_bytes
    first, end = decode_at(data, 0, SALT, BOOT) or (None, 0)
    assert first == entry(1)
    assert end == wanted_bytes(data, 0, SALT) == entry(1).size_bytes
    assert decode_at(data, end, SALT, BOOT) == (entry(2, b"", b""), len(data))


def test_ages() -> None:
    at = Moment(BOOT, 100 * 10**9 + 7, 9)
    one = entry(1)._replace(lifetime_s=0)
    assert is_too_old(one, at, 100 * 10**9)
    assert not is_too_old(one, at, 101 * 10**9)
    assert not is_too_old(one, at, 0)
    assert is_too_old(one._replace(lifetime_s=100), at, 0)


def test_a_key_that_is_too_long() -> None:
    with pytest.raises(ValueError, match="at most 65535"):
        encode(entry(1, key=b"k" * 70_000), SALT)


@given(st.integers(0, 3 * entry(1).size_bytes - 1))
def test_cut_anywhere(size: int) -> None:
    whole = log(entry(1), entry(2), entry(3))
    assert found(whole[:size]) == [1, 2, 3][: size // entry(1).size_bytes]


@given(st.integers(0, 3 * entry(1).size_bytes - 1), st.integers(1, 255))
def test_any_byte_damaged(at: int, by: int) -> None:
    data = bytearray(log(entry(1), entry(2), entry(3)))
    data[at] ^= by
    hit = at // entry(1).size_bytes + 1
    assert found(bytes(data)) == [one for one in (1, 2, 3) if one != hit]


def test_the_image_of_a_record_in_a_payload_is_none() -> None:
    """Whoever writes payloads does not know the file's number."""
    image = encode(entry(9), SALT ^ 1)
    data = bytearray(log(entry(1, image * 3), entry(2)))
    data[2] ^= 1
    assert found(bytes(data)) == [2]


def test_an_old_record_behind_a_newer_one_is_none() -> None:
    assert found(log(entry(5), entry(4), entry(6))) == [5, 6]
