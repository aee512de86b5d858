"""What is seen of files that nobody opens."""

import io
import os
import pickle
import zipfile

import pytest

from converters.sources.look import look


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_is_read_and_not_run(tmp_path, protocol):
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps({"state_dict": Canary(tmp_path / "canary")}, protocol))
    seen = look(path)
    assert seen.is_pickle
    assert seen.globals == {"posix.mkdir"}
    assert "state_dict" in seen.words
    assert not (tmp_path / "canary").exists()


def test_names_kept_in_a_pickles_memo_are_followed(tmp_path):
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps([io.BytesIO, io.StringIO, io.BytesIO], 4))
    assert look(path).globals == {"_io.BytesIO", "_io.StringIO"}


def test_a_zip_is_listed_with_and_without_its_first_folder(tmp_path):
    path = tmp_path / "net.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps(Canary(tmp_path / "canary")))
        archive.writestr("net/code/__torch__.py", "")
    seen = look(path)
    assert seen.is_zip
    assert {"net/data.pkl", "data.pkl", "code/__torch__.py"} <= seen.names
    assert seen.globals == {"posix.mkdir"}
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"PK\x03\x04" * 99, b"\x80\x04\xff\x00"])
def test_broken_files_are_seen_as_far_as_they_go(tmp_path, data):
    path = tmp_path / "m"
    path.write_bytes(data)
    assert not look(path).names
    assert not look(path).globals


def test_a_folder_shows_its_entries(tmp_path):
    (tmp_path / "saved_model.pb").touch()
    assert look(tmp_path).is_folder
    assert look(tmp_path).names == {"saved_model.pb"}
