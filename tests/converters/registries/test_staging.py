"""Files under an honest ending, folders without one file, and zips of always the same bytes."""

import errno
import os
import zipfile

import pytest

from converters.errors import ConversionError
from converters.registries import staging
from converters.registries.staging import copy_folder, stage_as, zip_folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model/deep").mkdir(parents=True)
    (tmp_path / "model/saved_model.ubj").write_bytes(b"tree\n")
    (tmp_path / "model/deep/b").write_bytes(b"b")
    return tmp_path / "model"


def test_a_right_ending_stays_where_it_is(folder, place):
    path = folder / "saved_model.ubj"
    assert stage_as(path, ".ubj", place) == path
    assert not list(place.folder.iterdir())


@pytest.mark.parametrize("is_one_file_system", [True, False])
def test_a_lying_ending_is_put_right_beside(folder, place, monkeypatch, is_one_file_system):
    if not is_one_file_system:

        def refuse(*_):
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(staging.os, "link", refuse)
    staged = stage_as(folder / "saved_model.ubj", ".txt", place)
    assert staged == place.folder / "saved_model.txt"
    assert staged.read_bytes() == b"tree\n"
    assert (folder / "saved_model.ubj").exists()
    same = staged.samefile(folder / "saved_model.ubj")
    assert same is is_one_file_system


def test_what_cannot_be_copied_is_told(folder, place):
    with pytest.raises(ConversionError, match="cannot be copied: No such file"):
        stage_as(folder / "none.ubj", ".txt", place)


def test_a_folder_without_one_of_its_files(folder, tmp_path):
    copy_folder(folder, tmp_path / "copy", without="saved_model.ubj")
    found = [p.relative_to(tmp_path / "copy").as_posix() for p in (tmp_path / "copy").rglob("*")]
    assert sorted(found) == ["deep", "deep/b"]


def test_a_link_in_a_folder_is_not_followed(folder, tmp_path):
    (tmp_path / "secret").write_bytes(b"s")
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ConversionError, match="link"):
        copy_folder(folder, tmp_path / "copy", without="")
    assert not (tmp_path / "copy/link").exists()


def test_files_are_zipped_to_the_same_bytes_on_any_day(folder, tmp_path):
    names = ["deep/b", "saved_model.ubj"]
    first = zip_folder(names, folder, tmp_path / "one.zip").read_bytes()
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    assert zip_folder(names, folder, tmp_path / "two.zip").read_bytes() == first
    with zipfile.ZipFile(tmp_path / "two.zip") as archive:
        assert archive.namelist() == names
        assert archive.read("deep/b") == b"b"
    with pytest.raises(ConversionError, match="cannot be packed"):
        zip_folder(["none"], folder, tmp_path / "three.zip")
