"""Which document lies beside the operator's files, and what becomes of the two together."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.documents import REMOVED, STATE, read_current, read_document, read_state
from edged.config.load import ConfigProblemsError, load, load_saved, save
from edged.generation.documents import Documents

FILES = (
    "node: n\ntrust: {require_signatures: false}\nmqtt: {host: b, desired: {}}\n"
    "models: {m: {bundle: m-1.edgb}}\n"
)
NEW = "models: {n: {bundle: n-1.edgb}}\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "edged.yaml").write_text(FILES)
    return tmp_path


def taken(site: Path, text: str = NEW, version: int = 7) -> Path:
    documents = Documents(site / "desired")
    documents.begin(version, "ab", text, "base")
    documents.take(version)
    return documents.directory


def test_the_two_are_one_configuration(site: Path) -> None:
    folder = taken(site)
    snapshot = load(site, folder)
    assert list(snapshot.config.models) == ["m", "n"]
    name = str(folder / "version-00000007.yaml")
    assert list(snapshot.files) == ["edged.yaml", name]
    assert str(snapshot.mark("models.n.bundle")) == f"{name}:1:22"
    assert list(load(site).config.models) == ["m"]
    save(snapshot, site / "copy")
    assert load_saved(site / "copy").files == snapshot.files


def test_where_they_do_not_agree_the_files_are_in_effect(site: Path) -> None:
    folder = taken(site, "models: {m: {bundle: n-1.edgb}}\n")
    snapshot = load(site, folder)
    assert list(snapshot.files) == ["edged.yaml"]
    (problem,) = snapshot.left_out
    assert (problem.file, problem.line) == (str(folder / "version-00000007.yaml"), 1)
    assert f"is already set at {site}/edged.yaml:4:10" in problem.message
    # What is wrong with the files themselves is no fault of the document.
    (site / "edged.yaml").write_text(FILES + "modles: {}\n")
    with pytest.raises(ConfigProblemsError, match=r"edged.yaml:5:1: modles"):
        load(site, folder)


def test_an_operator_who_takes_none_has_none(site: Path) -> None:
    folder = taken(site)
    (site / "edged.yaml").write_text(FILES.replace(", desired: {}", ""))
    snapshot = load(site, folder)
    assert (list(snapshot.config.models), snapshot.left_out) == (["m"], ())
    # Neither does a document let itself in, where it would do harm and where not.
    taken(site, "mqtt: {desired: {}}\n", 8)
    assert load(site, folder).left_out == ()


@pytest.mark.parametrize("text", ["access: {}\n", "models: {n: {bundle: /n.edgb}}\n"])
def test_a_document_is_not_believed_because_it_lies_there(site: Path, text: str) -> None:
    snapshot = load(site, taken(site, text))
    assert list(snapshot.files) == ["edged.yaml"]
    assert "over MQTT" in snapshot.left_out[0].message


def test_what_is_not_there(site: Path) -> None:
    folder = taken(site)
    (folder / REMOVED).touch()
    assert read_current(folder) is None
    (folder / REMOVED).unlink()
    current = read_current(folder)
    assert current is not None
    assert current.data == NEW.encode()
    Path(current.name).unlink()
    assert read_current(folder) is None
    assert read_document(folder, 7) is None
    assert read_current(site / "nowhere") is None
    assert read_current(taken(site, " \n", 8)) is None  # an empty document is none


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"seen": -1}', b'{"seen": "1"}', b"\xff", b"[" * 9999]
)
def test_damage_is_no_document(site: Path, data: bytes) -> None:
    folder = taken(site)
    (folder / STATE).write_bytes(data)
    assert read_current(folder) is None
    with pytest.raises(ValueError, match="damaged"):
        read_state(folder)
