"""Archives of BentoML: what comes out, and every way in which one may not come out."""

import io
import lzma
import tarfile
import zlib

import pytest

from converters.errors import ConversionError
from converters.registries import archive
from converters.registries.archive import unpack

TYPES = (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)


def pack(path, entries):
    """A tar.xz of (name, content) pairs; a tar type in the place of content makes such a member."""
    with tarfile.open(path, "w:xz") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            if content not in TYPES:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type = content
                info.linkname = "/etc/passwd"
                tar.addfile(info)
    return path


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_files_and_folders_come_out(tmp_path, out):
    entries = [("./", tarfile.DIRTYPE), ("./model.yaml", b"name: m"), ("./a/b.bin", b"\0" * 70_000)]
    unpack(pack(tmp_path / "m.bentomodel", entries), out)
    assert (out / "model.yaml").read_text() == "name: m"
    assert (out / "a/b.bin").stat().st_size == 70_000


@pytest.mark.hostile("T4 an archive with .., links, a name twice, or a bomb")
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("../evil", b"x", "outside"),
        ("a/../../evil", b"x", "outside"),
        ("/evil", b"x", "outside"),
        ("a\\evil", b"x", "outside"),
        ("evil", tarfile.SYMTYPE, "link or special"),
        ("evil", tarfile.LNKTYPE, "link or special"),
        ("evil", tarfile.FIFOTYPE, "link or special"),
        ("evil", tarfile.CHRTYPE, "link or special"),
        ("model.yaml", b"again", "comes twice"),
        ("a/" * 2000 + "x", b"", "over 64 folders deep"),
    ],
)
def test_a_member_that_is_no_plain_file_inside_is_refused(tmp_path, out, name, content, words):
    path = pack(tmp_path / "m.bentomodel", [("model.yaml", b"name: m"), (name, content)])
    with pytest.raises(ConversionError, match=words):
        unpack(path, out)
    assert [entry.name for entry in tmp_path.rglob("evil")] == []


@pytest.mark.hostile("T4 an archive with .., links, a name twice, or a bomb")
def test_a_bomb_ends_at_the_cap(tmp_path, out, monkeypatch):
    monkeypatch.setattr(archive, "FREE_BYTES", 1 << 20)
    path = pack(tmp_path / "m.bento", [("zeros", bytes(32 << 20))])
    with pytest.raises(ConversionError, match="a bomb"):
        unpack(path, out)


def test_a_dictionary_of_gigabytes_is_not_allocated(tmp_path, out):
    data = bytearray(lzma.compress(b"x" * 600))
    size = (data[12] + 1) * 4  # of the block's head, whose fifth byte says the dictionary's size
    data[16] = 40  # 4 GiB
    data[12 + size - 4 : 12 + size] = zlib.crc32(data[12 : 12 + size - 4]).to_bytes(4, "little")
    (tmp_path / "m.bento").write_bytes(data)
    with pytest.raises(ConversionError, match="Memory usage limit"):
        unpack(tmp_path / "m.bento", out)


def test_too_many_members(tmp_path, out, monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILES", 2)
    path = pack(tmp_path / "m.bento", [(str(number), b"") for number in range(3)])
    with pytest.raises(ConversionError, match="over 2 files"):
        unpack(path, out)


@pytest.mark.parametrize("cut", [0, 5, 40, -10])
def test_a_truncated_or_foreign_file(tmp_path, out, cut):
    path = pack(tmp_path / "m.bento", [("a", b"text" * 5000)])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ConversionError, match=r"m\.bento"):
        unpack(path, out)
    path.write_bytes(b"PK\x03\x04 not xz at all" * 10)
    with pytest.raises(ConversionError, match="not an xz tar"):
        unpack(path, out)


def test_what_comes_after_the_last_member_is_checked_too(tmp_path, out):
    path = pack(tmp_path / "m.bento", [("a", b"text")])
    padded = lzma.compress(lzma.decompress(path.read_bytes()) + bytes(3 << 20))
    path.write_bytes(padded[:-10])
    with pytest.raises(ConversionError, match="cut off"):
        unpack(path, out)
