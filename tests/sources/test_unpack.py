"""Layers: the one that we write, and every other."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from edged.errors import ApplyError, BundleError, IncompatibleError
from edged.sources import unpack as module
from edged.sources.unpack import unpack

DATA = bytes(range(256)) * 999
NAME = "models/m-1.edgb"


def tar(*members: tuple[str, bytes, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, kind, data in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = kind, len(data), "/etc/passwd"
            archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


FOLDER, BUNDLE = ("models", tarfile.DIRTYPE, b""), (NAME, tarfile.REGTYPE, DATA)


def run(folder: Path, layer: bytes, most: int = 1 << 20) -> bytes:
    (folder / "layer").write_bytes(layer)
    unpack(folder / "layer", folder / "x.edgb", most)
    return (folder / "x.edgb").read_bytes()


@pytest.mark.parametrize("members", [(FOLDER, BUNDLE), (BUNDLE,)])
def test_the_one_that_we_write(tmp_path: Path, members):
    assert run(tmp_path, gzip.compress(tar(*members))) == DATA
    assert run(tmp_path, gzip.compress(tar(*members))) == DATA, "one from before is replaced"


def refused(folder: Path, layer: bytes, error: type[Exception] = BundleError, most: int = 1 << 20):
    with pytest.raises(error) as found:
        run(folder, layer, most)
    assert not (folder / "x.edgb").exists()
    return found.value


@pytest.mark.parametrize(
    "members",
    [
        (), (FOLDER,), (FOLDER, FOLDER, BUNDLE), (FOLDER, BUNDLE, BUNDLE), (BUNDLE, FOLDER),
        (("models/../x.edgb", tarfile.REGTYPE, DATA),), (("/models/x.edgb", tarfile.REGTYPE, DATA),),
        (("models/x.txt", tarfile.REGTYPE, DATA),), (("models/a/x.edgb", tarfile.REGTYPE, DATA),),
        ((NAME, tarfile.SYMTYPE, b""),), ((NAME, tarfile.LNKTYPE, b""),),
        ((NAME, tarfile.CHRTYPE, b""),), ((NAME, tarfile.FIFOTYPE, b""),),
        ((NAME, tarfile.GNUTYPE_SPARSE, DATA),), ((NAME, tarfile.REGTYPE, b""),),
        (("etc", tarfile.DIRTYPE, b""), BUNDLE),
    ],
)  # fmt: skip
def test_any_other(tmp_path: Path, members):
    refused(tmp_path, gzip.compress(tar(*members)))


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_not_for_us(tmp_path: Path, form: int):
    refused(tmp_path, gzip.compress(tar(("models/" + "x" * 300, tarfile.REGTYPE, DATA), form=form)))


@pytest.mark.hostile("X9 a layer that unpacks to gigabytes")
class TestBombs:
    def test_by_what_the_header_states(self, tmp_path: Path):
        big = gzip.compress(tar((NAME, tarfile.REGTYPE, bytes(8 << 20))))
        assert len(big) < 20_000
        assert "max_bytes" in str(refused(tmp_path, big))

    def test_by_what_follows(self, tmp_path: Path):
        for tail in (bytes(32 << 20), b"x" * (32 << 20)):
            refused(tmp_path, gzip.compress(tar(BUNDLE) + tail))

    def test_in_front(self, tmp_path: Path):
        refused(tmp_path, gzip.compress(bytes(64 << 20)))

    def test_a_size_that_is_negative_or_huge(self, tmp_path: Path):
        entry = tarfile.TarInfo(NAME)
        for size in (2**60, 8**11 - 1):
            entry.size = size
            refused(tmp_path, gzip.compress(entry.tobuf(tarfile.GNU_FORMAT) + bytes(10240)))


@pytest.mark.parametrize("cut", [0, 5, 20, 100, 1000, -1, -8])
def test_cut_off(tmp_path: Path, cut: int):
    layer = gzip.compress(tar(FOLDER, BUNDLE))
    refused(tmp_path, layer[:cut])


def test_more_after_the_gzip(tmp_path: Path):
    layer = gzip.compress(tar(FOLDER, BUNDLE))
    refused(tmp_path, layer + b"x")
    refused(tmp_path, layer + layer)


def test_no_gzip_and_no_tar(tmp_path: Path):
    refused(tmp_path, tar(BUNDLE))
    refused(tmp_path, gzip.compress(b"x" * 10240))
    damaged = bytearray(gzip.compress(tar(BUNDLE)))
    damaged[len(damaged) // 2] ^= 0xFF
    refused(tmp_path, bytes(damaged))


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    layer = gzip.compress(tar(BUNDLE))
    monkeypatch.setattr(module, "_RESERVE", 2.0**60)
    assert "make room" in str(refused(tmp_path, layer, IncompatibleError))
    monkeypatch.undo()

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "write", full)
    refused(tmp_path, layer, ApplyError)
