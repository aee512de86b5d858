"""The socket as a file: permissions from the first moment, and nothing else is ever replaced."""

from __future__ import annotations

import grp
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.config.listen import SocketConfig
from edged.errors import ApplyError
from edged.transports import socket_file
from edged.transports.socket_file import bind_socket, remove_socket, set_access


@pytest.fixture
def made() -> Iterator[list[socket.socket]]:
    """Sockets to be closed."""
    sockets: list[socket.socket] = []
    yield sockets
    for sock in sockets:
        sock.close()


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        return sock.connect_ex(str(path)) == 0


def config(path: Path, **fields) -> SocketConfig:
    return SocketConfig(path=str(path), **fields)


@pytest.mark.parametrize("mode", ["0660", "0600", "0666"])
@pytest.mark.hostile("R22 the listener is a Unix socket of mode 0660")
def test_mode_and_group(tmp_path: Path, made: list, mode: str):
    group = grp.getgrgid(os.getgid()).gr_name
    made.append(bind_socket(config(tmp_path / "s", mode=mode, group=group)))
    info = (tmp_path / "s").stat()
    assert stat.S_IMODE(info.st_mode) == int(mode, 8)
    assert info.st_gid == os.getgid()
    assert connects(tmp_path / "s")
    assert not made[0].get_inheritable()


@pytest.mark.hostile("R22 the listener is a Unix socket of mode 0660")
def test_closed_to_others_before_the_mode_is_set(
    tmp_path: Path, made: list, monkeypatch: pytest.MonkeyPatch
):
    """No moment in which a stranger could connect: it is made with 0600 and opened after."""
    seen: list[int] = []
    real = socket_file.set_access

    def spy(access: SocketConfig, field: str) -> None:
        seen.append(stat.S_IMODE(os.lstat(access.path).st_mode))
        real(access, field)

    monkeypatch.setattr(socket_file, "set_access", spy)
    before = os.umask(0)
    try:
        made.append(bind_socket(config(tmp_path / "s", mode="0666")))
        assert os.umask(0) == 0, "the process's umask was left changed"
    finally:
        os.umask(before)
    assert seen == [0o600]


def test_stale_socket_is_replaced(tmp_path: Path, made: list):
    """What a killed daemon left behind."""
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(tmp_path / "s"))
    left.listen()
    left.close()
    assert not connects(tmp_path / "s")
    made.append(bind_socket(config(tmp_path / "s")))
    assert connects(tmp_path / "s")


def occupy(kind: str, path: Path) -> None:
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to nothing":
        path.symlink_to(path.with_name("nothing"))
    else:
        target = path.with_name("t")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.bind(str(target))
        path.symlink_to(target)


@pytest.mark.parametrize(
    "kind", ["file", "folder", "pipe", "link to nothing", "link to a stale socket"]
)
def test_anything_else_is_refused_and_kept(tmp_path: Path, kind: str):
    path = tmp_path / "s"
    occupy(kind, path)
    before = os.lstat(path)
    with pytest.raises(ApplyError, match=r"listen\.socket\.path: .* is there and is not a socket"):
        bind_socket(config(path))
    assert os.lstat(path).st_ino == before.st_ino


def test_live_socket_of_another_process_is_refused(tmp_path: Path):
    script = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()\n"
        "print('ready', flush=True); sys.stdin.read()\n"
    )
    path = tmp_path / "s"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"ready\n"
        with pytest.raises(ApplyError, match=f"another process listens on {path}"):
            bind_socket(config(path))
        assert connects(path), "the other one was cut off"
        other.stdin.close()
        assert other.wait(10) == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 108, "shorter than 108 bytes"),
        ("x" * 300, r"listen\.socket\.path"),
        ("no/such/folder/s", "the folder must exist"),
        ("zero\0byte", r"listen\.socket\.path"),
    ],
    ids=["108", "300", "no folder", "zero"],
)
def test_path_that_cannot_be(tmp_path: Path, name: str, message: str):
    with pytest.raises(ApplyError, match=message):
        bind_socket(SocketConfig(path=f"{tmp_path}/{name}"))
    assert list(tmp_path.iterdir()) == []


def test_longest_path_that_can_be(tmp_path: Path, made: list, monkeypatch: pytest.MonkeyPatch):
    """Control: 107 bytes are taken."""
    monkeypatch.chdir(tmp_path)
    made.append(bind_socket(SocketConfig(path="y" * 107)))
    assert connects(Path("y" * 107))


def test_unknown_group_leaves_nothing_behind(tmp_path: Path):
    with pytest.raises(ApplyError, match='group "no-such-group" and mode 0660 cannot be set'):
        bind_socket(config(tmp_path / "s", group="no-such-group"))
    assert not (tmp_path / "s").exists()


def test_set_access_changes_in_place(tmp_path: Path, made: list):
    made.append(bind_socket(config(tmp_path / "s")))
    set_access(config(tmp_path / "s", mode="0600"))
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600


def test_remove_takes_sockets_only(tmp_path: Path, made: list):
    made.append(bind_socket(config(tmp_path / "s")))
    remove_socket(str(tmp_path / "s"))
    assert not (tmp_path / "s").exists()
    (tmp_path / "f").write_text("precious")
    remove_socket(str(tmp_path / "f"))
    assert (tmp_path / "f").read_text() == "precious"
    remove_socket(str(tmp_path / "none"))
