"""Which files are a place for a secret; values and where they go: tests/broker/test_link.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edged.config.broker import Secret
from edged.config.load import Snapshot, load
from edged.credential import is_open_to_all, read_secret
from edged.errors import ApplyError


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    (tmp_path / "edged.yaml").write_text("node: a\n")
    return load(tmp_path)


def test_a_credential_of_systemd(
    snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cred").mkdir()
    (tmp_path / "cred/broker").write_text("hunter2\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "cred"))
    assert read_secret(snapshot, Secret(secret="broker")) == "hunter2"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(ApplyError, match="LoadCredential"):
        read_secret(snapshot, Secret(secret="broker"))


def test_a_pipe_does_not_hold_up_the_daemon(snapshot: Snapshot, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pw")
    with pytest.raises(ApplyError, match="not a regular file"):
        read_secret(snapshot, Secret(file="pw"))


def test_what_others_could_have_written(snapshot: Snapshot, tmp_path: Path) -> None:
    path = tmp_path / "pw"
    path.write_text("hunter2")
    path.chmod(0o666)
    with pytest.raises(ApplyError, match="chmod o-w") as caught:
        read_secret(snapshot, Secret(file="pw"))
    assert "hunter2" not in str(caught.value)
    path.chmod(0o600)
    assert read_secret(snapshot, Secret(file="pw")) == "hunter2"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_is_anothers(snapshot: Snapshot, tmp_path: Path) -> None:
    path = tmp_path / "pw"
    path.write_text("hunter2")
    os.chown(path, 12345, -1)
    with pytest.raises(ApplyError, match="belongs to user id 12345"):
        read_secret(snapshot, Secret(file="pw"))


def test_open_to_all(snapshot: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("x")
    (tmp_path / "pw").chmod(0o644)
    assert is_open_to_all(snapshot, Secret(file="pw"))
    (tmp_path / "pw").chmod(0o640)
    assert not is_open_to_all(snapshot, Secret(file="pw"))
    assert not is_open_to_all(snapshot, Secret(file="none"))
    assert not is_open_to_all(snapshot, Secret(secret="x"))
