"""Reading foreign folders and YAML: inside, through no link, within caps, and no object made."""

import os

import pytest

from converters.errors import ConversionError
from converters.registries import files
from converters.registries.files import file_inside, inside, read_text, read_yaml, walk


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model" / "data").mkdir(parents=True)
    (tmp_path / "model" / "data" / "w.bin").write_bytes(b"w")
    (tmp_path / "secret").write_text("s")
    return tmp_path / "model"


def test_what_lies_inside_is_found(folder):
    assert file_inside(folder, "data/w.bin", "m").read_bytes() == b"w"
    assert [path.name for path in walk(folder)] == ["w.bin"]


@pytest.mark.hostile("T1 a description that names a path outside or a link")
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("../secret", "leaves the folder"),
        ("data/../../secret", "leaves the folder"),
        ("/etc/passwd", "not a path inside"),
        ("", "not a path inside"),
        ("data\\w.bin", "not a path inside"),
        ("a\0b", "not a path inside"),
        ("data/other", "No such file"),
        ("x" * 300, "too long"),
    ],
)
def test_a_path_that_leaves_or_is_not_there_is_refused(folder, path, words):
    with pytest.raises(ConversionError, match=words):
        inside(folder, path, "MLmodel")


@pytest.mark.hostile("T1 a description that names a path outside or a link")
def test_links_and_special_files_are_refused(folder):
    (folder / "link").symlink_to(folder.parent / "secret")
    with pytest.raises(ConversionError, match="symbolic link"):
        inside(folder, "link", "MLmodel")
    with pytest.raises(ConversionError, match="link"):
        list(walk(folder))
    with pytest.raises(ConversionError, match="symbolic links"):
        read_text(folder / "link")
    os.mkfifo(folder / "data" / "pipe")
    with pytest.raises(ConversionError, match="neither a file nor a folder"):
        inside(folder, "data/pipe", "MLmodel")
    with pytest.raises(ConversionError, match="not a plain file"):
        read_text(folder / "data" / "pipe")
    with pytest.raises(ConversionError, match="expected a file"):
        file_inside(folder, "data", "MLmodel")


def test_a_folder_of_too_many_files_is_no_model(folder, monkeypatch):
    monkeypatch.setattr(files, "MAX_FILES", 3)
    for number in range(3):
        (folder / str(number)).touch()
    with pytest.raises(ConversionError, match="over 3 files"):
        list(walk(folder))


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n"
    for before, name in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.hostile("T2 YAML with a tag, an alias bomb, or of megabytes")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !!python/object/apply:os.system ['touch /tmp/x']", r"line 1: the tag"),
        ("b: 1\na: !!python/name:os.system", r"line 2: the tag"),
        ("a: !custom {}", r"line 1: the tag"),
        ("a: [", r"line 2: not YAML"),
        ("- 1", "expected a mapping, found list"),
        ("", "expected a mapping, found NoneType"),
        ("a: 2026-99-99", "not YAML that can be read"),
        ("a: " + "[" * 40 + "]" * 40, "too deeply nested"),
        (BOMB, "alias bomb"),
    ],
)
def test_hostile_yaml_is_refused_in_a_sentence(tmp_path, text, words):
    path = tmp_path / "MLmodel"
    path.write_text(text)
    with pytest.raises(ConversionError, match=words):
        read_yaml(path)


@pytest.mark.hostile("T2 YAML with a tag, an alias bomb, or of megabytes")
def test_giant_binary_and_missing_yaml(tmp_path):
    path = tmp_path / "MLmodel"
    path.write_bytes(b"a: " + b"x" * files.MAX_TEXT_BYTES)
    with pytest.raises(ConversionError, match="no description needs"):
        read_yaml(path)
    path.write_bytes(b"a: \xff")
    with pytest.raises(ConversionError, match="not UTF-8"):
        read_yaml(path)
    with pytest.raises(ConversionError, match="No such file"):
        read_yaml(tmp_path / "none")


def test_an_alias_that_is_no_bomb_is_read(tmp_path):
    (tmp_path / "m.yaml").write_text("a: &x {k: 1}\nb: *x\nc: !!str 3\n")
    assert read_yaml(tmp_path / "m.yaml") == {"a": {"k": 1}, "b": {"k": 1}, "c": "3"}
