"""Digests of what a recipe points to."""

import hashlib
import os

import onnx
import pytest

from converters import contents
from converters.contents import hash_path, hash_sources
from converters.errors import ConversionError
from converters.recipe import Recipe


def test_a_file_is_its_bytes_and_a_factory_its_name(tmp_path):
    (tmp_path / "s.npz").write_bytes(b"abc")
    recipe = Recipe(source="net:build", samples=str(tmp_path / "s.npz"), name="m", release=1)
    digest = hashlib.sha256(b"abc").hexdigest()
    assert hash_sources(recipe) == {"source": "net:build", "samples": digest}


def test_a_folder_is_the_names_and_bytes_of_its_files(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "variables").mkdir(parents=True)
        (tmp_path / name / "saved_model.pb").write_bytes(b"graph")
        (tmp_path / name / "variables" / "data").write_bytes(b"weights")
    assert hash_path(tmp_path / "one") == hash_path(tmp_path / "two")
    (tmp_path / "two" / "variables" / "data").rename(tmp_path / "two" / "data")
    assert hash_path(tmp_path / "one") != hash_path(tmp_path / "two")


def test_what_cannot_be_read_names_the_field(tmp_path, monkeypatch):
    recipe = Recipe(source=str(tmp_path), samples=str(tmp_path / "no"), name="m", release=1)
    with pytest.raises(ConversionError, match=r'samples ".*no": No such file'):
        hash_sources(recipe)
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    monkeypatch.setattr(contents, "MAX_FILES", 1)
    with pytest.raises(ConversionError, match="over 1 files"):
        hash_path(tmp_path)


def test_weights_beside_an_onnx_file_are_part_of_it(tmp_path, build_linear):
    model = build_linear()
    onnx.save_model(
        model, tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    recipe = Recipe(source=str(tmp_path / "m.onnx"), name="m", release=1)
    before = hash_sources(recipe)
    assert hash_sources(recipe) == before
    assert before["source"] != hash_path(tmp_path / "m.onnx")
    data = bytearray((tmp_path / "w").read_bytes())
    data[3] ^= 1
    (tmp_path / "w").write_bytes(data)
    assert hash_sources(recipe) != before
    (tmp_path / "w").unlink()
    (tmp_path / "w").symlink_to("/dev/zero")  # is not read; the reader refuses it
    assert hash_sources(recipe)["source"] == hash_path(tmp_path / "m.onnx")


def test_a_folder_behind_a_link_is_not_overlooked(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model" / "variables").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConversionError, match='"variables" in "model" is a link to a folder'):
        hash_path(tmp_path / "model")


def test_a_folder_with_a_name_that_is_not_text(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"a\xff")).touch()
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    with pytest.raises(ConversionError, match="not UTF-8"):
        hash_path(tmp_path)
