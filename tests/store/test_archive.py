"""The zip frame: one form, and every way to differ from it is refused."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import BundleError, EdgedError
from edged.store import archive
from tests.bundles import write_archive

MEMBERS = [("manifest.json", b"{}"), ("model.onnx", b"weights" * 100)]


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def entries_of(path: Path) -> tuple[archive.Entry, ...]:
    with opened(path) as fd:
        return archive.read_entries(fd)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "a.edgb", MEMBERS)


def refused(path: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        entries_of(path)


def patched(path: Path, at: int, data: bytes) -> Path:
    content = bytearray(path.read_bytes())
    content[at : at + len(data)] = data
    path.write_bytes(content)
    return path


def directory_at(path: Path) -> int:
    return struct.unpack("<I", path.read_bytes()[-6:-2])[0]


def test_good(good: Path):
    assert [(entry.name, entry.size) for entry in entries_of(good)] == [
        (name, len(data)) for name, data in MEMBERS
    ]
    with opened(good) as fd:
        for entry, (_, data) in zip(archive.read_entries(fd), MEMBERS, strict=True):
            assert archive.read(fd, entry, 10_000) == data


def test_large_member_comes_in_chunks(tmp_path: Path):
    data = os.urandom(archive.CHUNK_BYTES * 2 + 5)
    with opened(write_archive(tmp_path / "a", [("x", data)])) as fd:
        chunks = list(archive.stream(fd, archive.read_entries(fd)[0]))
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) == archive.CHUNK_BYTES


def test_small_member_is_capped_before_reading(good: Path):
    with opened(good) as fd, pytest.raises(BundleError, match="limit is 10"):
        archive.read(fd, archive.read_entries(fd)[1], 10)


class TestFrame:
    @pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"\x7fELF" * 16])
    def test_empty_or_something_else(self, tmp_path: Path, data: bytes):
        path = tmp_path / "a"
        path.write_bytes(data)
        refused(path, "not a bundle|cut off")

    def test_leading_data(self, good: Path):
        good.write_bytes(b"#!/bin/sh\n" + good.read_bytes())
        refused(good, "does not start")

    def test_trailing_data(self, good: Path):
        good.write_bytes(good.read_bytes() + b"x")
        refused(good, "1 bytes follow")

    def test_comment(self, good: Path):
        patched(good, good.stat().st_size - 2, b"\x03\x00")
        good.write_bytes(good.read_bytes() + b"abc")
        refused(good, "end of archive")

    def test_gap_between_members(self, good: Path):
        data = good.read_bytes()
        at = data.index(b"PK\x03\x04", 4)
        good.write_bytes(data[:at] + b"gap" + data[at:])
        refused(good, "PK|directory|cut off|fit")

    def test_truncated_anywhere(self, good: Path):
        data = good.read_bytes()
        for size in range(0, len(data), 7):
            good.write_bytes(data[:size])
            with pytest.raises(BundleError):
                entries_of(good)

    def test_not_a_regular_file(self, tmp_path: Path):
        fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with pytest.raises(BundleError, match="regular file"):
                archive.read_entries(fd)
        finally:
            os.close(fd)

    def test_too_large_is_refused_by_its_size(self, tmp_path: Path):
        path = tmp_path / "a"
        with path.open("wb") as file:
            file.truncate(5 << 30)
        refused(path, "limit")

    @pytest.mark.hostile("R9 every list of a peer has caps of count and bytes")
    def test_too_many_members(self, tmp_path: Path):
        refused(
            write_archive(tmp_path / "a", [(f"m{i}", b"x") for i in range(259)]), "more than 258"
        )

    @pytest.mark.parametrize("second", ["model.onnx", "MODEL.onnx"])
    @pytest.mark.hostile("G4 one name twice, good then bad")
    def test_duplicate_member_name_good_then_bad(self, tmp_path: Path, second: str):
        path = tmp_path / "a"
        with pytest.warns(UserWarning, match="Duplicate") if second == "model.onnx" else _nothing():
            write_archive(path, [("model.onnx", b"good"), (second, b"bad")])
        refused(path, "occurs twice")


@contextmanager
def _nothing() -> Iterator[None]:
    yield


class TestHeaders:
    @pytest.mark.hostile("G5 97 kB that would become 100 MB")
    def test_compressed(self, tmp_path: Path):
        """97 kB that expands to 100 MB: refused by the method, before a byte is expanded."""
        path = tmp_path / "a"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            info = zipfile.ZipInfo("model.onnx", (1980, 1, 1, 0, 0, 0))
            file.writestr(info, bytes(100_000_000), zipfile.ZIP_DEFLATED)
        assert path.stat().st_size < 120_000
        refused(path, "stored, not compressed")

    @pytest.mark.hostile("G5 97 kB that would become 100 MB")
    def test_declared_size_larger_than_what_is_there(self, good: Path):
        """Refused by declared size: 4 GiB stated, none of it there."""
        patched(good, 18, struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0))
        refused(good, "the file ends before; copy it again")

    @pytest.mark.parametrize(
        ("at", "data", "message"),
        [
            (4, b"\x2d\x00", "plain header"),
            (6, b"\x01\x00", "encrypted"),
            (6, b"\x08\x00", "data descriptor"),
            (6, b"\x00\x08", "flags"),
            (10, b"\x01\x00", "plain header"),
            (12, b"\x22\x00", "plain header"),
            (14, b"\x00\x00\x00\x00", "differs"),
            (18, b"\x03\x00\x00\x00", "stored"),
            (26, b"\x00\x00", "1 to 64 bytes"),
            (26, b"\x2c\x01", "1 to 64 bytes"),
            (28, b"\x01\x00", "extra"),
            (30, b"M", "differs"),
            (30, b"\xff", "ASCII"),
            (33, b"\0", "control characters"),
            (33, b"\n", "control characters"),
        ],
    )
    def test_local_header(self, good: Path, at: int, data: bytes, message: str):
        refused(patched(good, at, data), message)

    @pytest.mark.parametrize(
        ("at", "data"),
        [
            (0, b"XK"),
            (6, b"\xff\x00"),
            (8, b"\x01"),
            (10, b"\x08"),
            (14, b"\x00\x00"),
            (16, b"\x00\x00\x00\x00"),
            (20, b"\x01\x00\x00\x00"),
            (24, b"\x01\x00\x00\x00"),
            (30, b"\x01\x00"),
            (32, b"\x01\x00"),
            (34, b"\x01\x00"),
            (38, struct.pack("<I", (stat.S_IFLNK | 0o777) << 16)),
            (38, struct.pack("<I", (stat.S_IFDIR | 0o700) << 16)),
            (38, struct.pack("<I", 0x10)),
            (42, b"\x01\x00\x00\x00"),
            (46, b"M"),
        ],
    )
    def test_directory_that_tells_another_story(self, good: Path, at: int, data: bytes):
        refused(patched(good, directory_at(good) + at, data), "differs|cut off|end of archive")

    @pytest.mark.parametrize("mode", [0, 0o644, stat.S_IFREG | 0o755])
    def test_permissions_are_the_writers_affair(self, good: Path, mode: int):
        patched(good, directory_at(good) + 38, struct.pack("<I", mode << 16))
        assert entries_of(good)


class TestWhileReading:
    def test_flipped_bit(self, good: Path):
        at = good.read_bytes().index(b"weights")
        patched(good, at, b"W")
        with opened(good) as fd, pytest.raises(BundleError, match="CRC"):
            archive.read(fd, archive.read_entries(fd)[1], 10_000)

    def test_file_that_shrinks(self, good: Path):
        with opened(good) as fd:
            entry = archive.read_entries(fd)[1]
            os.truncate(good, entry.data_at + 3)
            with pytest.raises(BundleError, match="shorter"):
                archive.read(fd, entry, 10_000)


def _zip(members: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in members:
            file.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    return buffer.getvalue()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3),
    st.binary(max_size=4),
)
def test_what_is_accepted_reads_the_same_in_another_zip_reader(edits, tail):
    """Whatever gets through means to everybody what it means to us; nothing else is raised."""
    content = bytearray(_zip([*MEMBERS[:1], ("model.onnx", b"weights")]) + tail)
    for at, value in edits:
        content[at % len(content)] = value
    fd = os.memfd_create("archive")
    try:
        os.write(fd, content)
        try:
            mine = {e.name: archive.read(fd, e, 1000) for e in archive.read_entries(fd)}
        except EdgedError:
            return
        with zipfile.ZipFile(io.BytesIO(content)) as other:
            assert mine == {name: other.read(name) for name in other.namelist()}
    finally:
        os.close(fd)
