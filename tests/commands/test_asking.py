"""The words of the commands without a daemon; beside one: tests/test_cli.py."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from edged.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("words", [["status"], ["models"], ["metrics"], ["infer", "m", "1"]])
def test_no_daemon(tmp_path: Path, capsys: Capture, words: list[str]) -> None:
    assert main([*words, "--socket", str(tmp_path / "none.sock")]) == 69
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"error: cannot connect to {tmp_path}/none.sock: ")
    assert "is the daemon running" in said.err
    assert said.err.count("\n") == 1


def test_a_path_that_no_socket_can_have(capsys: Capture) -> None:
    assert main(["status", "--socket", "/" + "x" * 200]) == 69
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_administrators_verbs_say_where_they_are_asked(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setenv("EDGED_ADMIN_SOCKET", f"{tmp_path}/none.sock")
    assert main([verb, "m"]) == 69
    assert "asked on `listen.admin`" in capsys.readouterr().err


@pytest.mark.parametrize("said", [b"", b"EDG", b"\0" * 64, b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_daemon_that_closes_half_way(tmp_path: Path, capsys: Capture, said: bytes) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def close_half_way() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1 << 16)
                peer.sendall(said)

        thread = threading.Thread(target=close_half_way)
        thread.start()
        status = main(["status", "--socket", str(path)])
        thread.join(10)
    done = capsys.readouterr()
    assert (status, done.out) == (69, "")
    assert done.err.startswith("error: the connection to ")
    assert done.err.count("\n") == 1


def test_words_that_do_not_go_together(capsys: Capture) -> None:
    assert main(["infer", "m", "1", "--stream", "--sequence", "7"]) == 65
    assert "two kinds of models" in capsys.readouterr().err


def test_a_rollout_that_is_not_named(capsys: Capture) -> None:
    assert main(["rollout", "promote"]) == 65
    assert "which model" in capsys.readouterr().err
