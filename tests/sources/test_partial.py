"""A file that grows: what counts of it, and what does not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from edged.errors import ApplyError, DigestMismatchError
from edged.sources.partial import Partial, Wanted

DATA = bytes(range(256)) * 10
CHUNK = 1000


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


PLAIN = Wanted(len(DATA), sha(DATA))
CHUNKED = Wanted(
    len(DATA), sha(DATA), CHUNK, tuple(sha(DATA[i : i + CHUNK]) for i in range(0, len(DATA), CHUNK))
)


@pytest.mark.parametrize("wanted", [PLAIN, CHUNKED], ids=["plain", "chunked"])
@pytest.mark.parametrize("cut", [0, 1, 999, 1000, 1001, 2559])
def test_it_goes_on_at_the_byte(tmp_path: Path, wanted: Wanted, cut: int):
    path = tmp_path / "x.part"
    with Partial(path, wanted) as part:
        part.append(DATA[:cut])
        part.remember('"one"')
    with Partial(path, wanted) as part:
        assert (part.at, part.etag, part.is_whole) == (cut, '"one"', False)
        part.append(DATA[cut:])
        assert part.is_whole
        assert part.came == len(DATA) - cut
        assert part.finish().read_bytes() == DATA
        part.discard()
    assert list(tmp_path.iterdir()) == []


def test_one_of_another_file_does_not_count(tmp_path: Path):
    path = tmp_path / "x.part"
    with Partial(path, PLAIN) as part:
        part.append(DATA[:500])
        part.remember('"one"')
    with Partial(path, Wanted(len(DATA), sha(b"other"))) as part:
        assert (part.at, part.etag) == (0, "")


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"size": "x"}', b"\xff" * 9000])
def test_one_without_a_good_note_does_not_count(tmp_path: Path, note: bytes):
    with Partial(tmp_path / "x.part", PLAIN) as part:
        part.append(DATA[:500])
    (tmp_path / "x.json").write_bytes(note)
    with Partial(tmp_path / "x.part", PLAIN) as part:
        assert part.at == 0


def test_a_chunk_that_rotted_on_disk_is_fetched_again(tmp_path: Path):
    path = tmp_path / "x.part"
    with Partial(path, CHUNKED) as part:
        part.append(DATA[:2300])
    data = bytearray(path.read_bytes())
    data[1500] ^= 1
    path.write_bytes(data)
    with Partial(path, CHUNKED) as part:
        assert part.at == 1000


def test_a_bad_chunk_is_thrown_away_and_those_before_stay(tmp_path: Path):
    with Partial(tmp_path / "x.part", CHUNKED) as part:
        part.append(DATA[:1800])
        with pytest.raises(DigestMismatchError, match="chunk 2 of 3"):
            part.append(b"?" * 400)
        assert part.at == 1000
        part.append(DATA[1000:])
        assert part.finish().read_bytes() == DATA


def test_bad_bytes_without_chunks_cost_all(tmp_path: Path):
    with Partial(tmp_path / "x.part", PLAIN) as part:
        part.append(DATA[:-1] + b"?")
        with pytest.raises(DigestMismatchError, match="does not have the sha256"):
            part.finish()
        assert part.at == 0


def test_nothing_is_written_behind_the_end(tmp_path: Path):
    with Partial(tmp_path / "x.part", PLAIN) as part:
        part.append(DATA[:-1])
        with pytest.raises(DigestMismatchError, match="more comes than the 2560 bytes"):
            part.append(b"12")
        assert (tmp_path / "x.part").stat().st_size == len(DATA) - 1


@pytest.mark.parametrize("etag", ['W/"weak"', "bare", "", '"' + "x" * 300 + '"'])
def test_only_a_strong_tag_is_remembered(tmp_path: Path, etag: str):
    with Partial(tmp_path / "x.part", PLAIN) as part:
        part.remember(etag)
        assert part.etag == ""


def test_a_longer_file_from_before_is_cut(tmp_path: Path):
    path = tmp_path / "x.part"
    with Partial(path, CHUNKED) as part:
        part.append(DATA)
    path.write_bytes(DATA + b"more")
    with Partial(path, CHUNKED) as part:
        assert part.is_whole
        assert part.finish().read_bytes() == DATA


def test_a_link_in_its_place_is_not_followed(tmp_path: Path):
    (tmp_path / "precious").write_text("x")
    (tmp_path / "x.part").symlink_to(tmp_path / "precious")
    with pytest.raises(ApplyError, match="cannot write to"), Partial(tmp_path / "x.part", PLAIN):
        pass
    assert (tmp_path / "precious").read_text() == "x"
