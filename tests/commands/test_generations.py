"""What ``edged history`` shows and what orders are refused without a daemon; with one:
tests/e2e/test_generations.py."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edged.commands.generations import (
    Refused,
    _keeps_state,
    ask,
    history_document,
    render_history,
    signal_daemon,
)
from edged.config.load import load
from edged.errors import ApplyError, DisconnectedError, NotFoundError
from edged.generation.entries import Entry
from edged.generation.history import History, Order, Rejection


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "edged.yaml").write_text("node: a\n")
    history = History(tmp_path / "state/history")
    for number in (1, 2):
        history.add(load(tmp_path), Entry(number, f"{number}" * 64, 1e9, "files"))
    history.confirm(1, "1" * 64)
    history.reject(Rejection("2" * 64, 2, 1e9, "it was worse"))
    return tmp_path / "state"


def test_shown(state: Path) -> None:
    newest, oldest = history_document(state)
    assert (newest["generation"], newest["state"], newest["reason"]) == (
        2,
        "set aside",
        "it was worse",
    )
    assert (oldest["state"], oldest["is_newest"]) == ("confirmed", False)
    text = render_history([newest, oldest], Path("/s"))
    assert "set aside: it was worse" in text
    assert "2001-09-09 01:46:40 UTC" in text


def test_nothing_yet(tmp_path: Path) -> None:
    text = render_history(history_document(tmp_path), tmp_path)
    assert text.startswith(f"{tmp_path} keeps no generation yet")
    assert "if not: --config FILE of the daemon" in text, "what to do where it is another's"


def order(state: Path, order: Order | None) -> str:
    return ask(str(state / "no.sock"), state, order, timeout_s=1, until="applied")


def test_without_a_daemon_an_order_waits(state: Path) -> None:
    assert "next start" in order(state, Order(1))
    assert History(state / "history").ordered() == Order(1)


def test_but_not_a_wrong_one(state: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="keeps no generation 9"):
        order(state, Order(9))
    with pytest.raises(ApplyError, match="keeps no generation yet"):
        order(tmp_path / "elsewhere", Order(0))
    with pytest.raises(DisconnectedError):
        order(state, None)


def test_whose_state_it_is(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon with a right of its own (AmbientCapabilities) shows its user which files, not what."""
    (state / "lock").touch()
    assert not _keeps_state(os.getpid(), state)
    with (state / "lock").open():
        assert _keeps_state(os.getpid(), state)

    real = Path.stat

    def stat(path: Path, **options: Any) -> os.stat_result:
        if path.parent.name == "fd":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    assert _keeps_state(os.getpid(), state)


@pytest.mark.parametrize("pid", [-1, 0, 1, "1", None])
def test_only_a_process_is_told(pid: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers on the socket says who it is, and root asks."""
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("somebody was told"))
    with pytest.raises(ApplyError, match="no daemon"):
        signal_daemon(pid)


def test_what_could_not_be_noted_did_not_prove_good(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full or read-only disk: the window is over, and the next start knows nothing of it."""
    looks = itertools.count()

    def call(*_: object, **__: object) -> dict[str, Any]:
        config = {"digest": "d", "applied": True, "problems": [], "window_left_s": None}
        number = next(looks)
        more = {"begun": number, "looked": number, "went_back": None, "unnoted": "the disk"}
        return {"pid": 7, "generation": 4, "config": config | more}

    client = contextlib.nullcontext(SimpleNamespace(call=call))
    monkeypatch.setattr("edged.commands.generations.Client", lambda _: client)
    monkeypatch.setattr("edged.commands.generations.signal_daemon", lambda _: None)
    assert ask("", state, None, timeout_s=9, until="applied") == "generation 4 is in effect (d)"
    with pytest.raises(Refused, match="generation 4 serves: the disk"):
        ask("", state, None, timeout_s=9, until="confirmed")


def test_a_daemon_of_before(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package was brought up to date, and the daemon was not started again yet."""

    older = {"pid": 0, "config": {"digest": "", "applied": True, "problems": []}}
    client = contextlib.nullcontext(SimpleNamespace(call=lambda *_, **__: older))
    monkeypatch.setattr("edged.commands.generations.Client", lambda _: client)
    with pytest.raises(ApplyError, match="restart it"):
        order(state, Order(1))
    assert History(state / "history").ordered() is None
