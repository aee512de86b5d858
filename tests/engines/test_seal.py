"""The device's key: made once, readable by us alone, and not used where that is not so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edged.engines.seal import CREDENTIAL, KEY_NAME, Seal, file_problem, open_seal
from edged.errors import LoadError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "engines"
    path.mkdir(mode=0o700)
    return path


def test_the_key_is_made_at_the_first_use_and_stays(folder):
    seal = open_seal(folder, {}).make(b"record")
    path = folder / KEY_NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_bytes()) == 32
    assert [path.name for path in folder.iterdir()] == [KEY_NAME]
    assert open_seal(folder, {}).holds(b"record", seal)


def test_every_device_has_its_own(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    assert not open_seal(other, {}).holds(b"record", open_seal(folder, {}).make(b"record"))


def test_a_seal_holds_for_its_record_alone():
    seal = Seal(b"k" * 32)
    assert seal.holds(b"record", seal.make(b"record"))
    assert not seal.holds(b"recore", seal.make(b"record"))
    assert not seal.holds(b"record", seal.make(b"record")[:-1])
    assert not seal.holds(b"record", b"")


_SEAL = """
import sys
from pathlib import Path
from edged.engines.seal import open_seal
print(open_seal(Path(sys.argv[1]), {}).make(b"record").hex())
"""


def test_processes_that_make_it_at_once_have_the_same(folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _SEAL, str(folder)]
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        for _ in range(3)
    ]
    seals = {child.communicate(timeout=60)[0].strip() for child in children}
    assert seals == {open_seal(folder, {}).make(b"record").hex()}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.chmod(0o640), "mode is 0640"),
        (lambda path: path.write_bytes(b"short"), "has 5 bytes"),
        (lambda path: path.write_bytes(b"x" * 33), "has 33 bytes"),
        (lambda path: os.link(path, path.with_name("second")), "2 names"),
        (lambda path: (path.rename(path.with_name("k")), path.symlink_to("k")), "symbolic links"),
        (lambda path: (path.unlink(), os.mkfifo(path, 0o600)), "no plain file"),
    ],
)
def test_a_key_that_others_may_know_or_gave_is_not_used(folder, spoil, words):
    open_seal(folder, {})
    spoil(folder / KEY_NAME)
    with pytest.raises(LoadError, match=words):
        open_seal(folder, {})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_key_of_another_user_is_not_used(folder):
    open_seal(folder, {})
    os.chown(folder / KEY_NAME, 12345, 12345)
    with pytest.raises(LoadError, match="belongs to user 12345"):
        open_seal(folder, {})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_makes_belongs_to_the_folders_owner(folder):
    os.chown(folder, 12345, 12345)
    open_seal(folder, {})
    assert (folder / KEY_NAME).stat().st_uid == 12345
    open_seal(folder, {})


def test_the_credential_of_the_service_manager_comes_first(folder, tmp_path):
    (tmp_path / CREDENTIAL).write_bytes(b"c" * 32)
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert open_seal(folder, environment).make(b"r") == Seal(b"c" * 32).make(b"r")
    assert not (folder / KEY_NAME).exists()
    (tmp_path / CREDENTIAL).write_bytes(b"c" * 31)
    with pytest.raises(LoadError, match="has 31 bytes; expected 32 to 4096"):
        open_seal(folder, environment)
    (tmp_path / CREDENTIAL).unlink()
    open_seal(folder, environment)
    assert (folder / KEY_NAME).exists()


def test_no_folder_is_an_error_and_not_a_new_key_elsewhere(tmp_path):
    with pytest.raises(LoadError, match="cannot be opened"):
        open_seal(tmp_path / "missing", {})


def test_what_a_file_of_ours_is(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    path.chmod(0o600)
    assert not file_problem(path.stat(), {os.geteuid()})
    assert "belongs to user" in file_problem(path.stat(), {os.geteuid() + 1})
    assert "no plain file" in file_problem(tmp_path.stat(), {os.geteuid()})
