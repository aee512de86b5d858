"""The words of the commands; what they do: tests/e2e/test_generations.py."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edged.cli import main
from edged.commands.generations import Refused


def test_a_number_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "100000000", "--state-dir", str(tmp_path)]) == 65
    assert "edged history" in capsys.readouterr().err


def test_history_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "--json", "--state-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "[]\n"


@pytest.mark.parametrize(
    ("words", "why", "is_tried_again"),
    [
        (["apply", "--wait"], os.strerror(errno.ENOSPC), True),
        (["apply", "--wait"], "unknown name", False),
        (["rollback", "3"], os.strerror(errno.ENOSPC), False),
    ],
)
def test_what_is_refused_for_lack_of_room_is_tried_again_and_an_order_is_not(
    words: list[str],
    why: str,
    is_tried_again: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise Refused([why])

    monkeypatch.setattr("edged.commands.generations.ask", refuse)
    assert main([*words, "--state-dir", str(tmp_path)]) == 78
    again = ["the daemon tries again by itself, at least once a minute"]
    assert capsys.readouterr().err.splitlines() == [why, *(again if is_tried_again else [])]


def test_nobody_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["apply", "--socket", str(tmp_path / "no.sock"), "--state-dir", str(tmp_path)]
    assert main(words) == 69
    assert "no.sock" in capsys.readouterr().err
