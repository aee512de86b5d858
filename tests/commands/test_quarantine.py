"""What an operator sees of the quarantine, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edged.commands.quarantine import lift, quarantined, render
from edged.errors import ApplyError, NotFoundError
from edged.store import probation as module
from edged.store.probation import Probation

A, B, C = "a" * 64, "ab" * 32, "c" * 64


@pytest.fixture
def state(tmp_path: Path) -> Path:
    probation = Probation(tmp_path / "probation", lambda: 86400.0 * 365)
    probation.quarantine(A, "gate", 3, "its trial died of SIGFPE")
    probation.quarantine(B, "door", 1, "the daemon died 2 times")
    probation.note_passed(C, "gate", 2, "onnxruntime 1.23")
    return tmp_path


def test_shows_those_in_it(state: Path):
    assert set(quarantined(state)) == {A, B}
    assert render(quarantined(state)).splitlines() == [
        "gate release 3  aaaaaaaaaaaa  since 1971-01-01 00:00 UTC",
        "    its trial died of SIGFPE",
        "door release 1  abababababab  since 1971-01-01 00:00 UTC",
        "    the daemon died 2 times",
    ]


def test_nothing_in_it(tmp_path: Path):
    assert quarantined(tmp_path / "none") == {}
    assert render({}) == "no release is in quarantine"


@pytest.mark.parametrize("which", ["gate", A, A[:12], A[:8]])
def test_lift(state: Path, which: str):
    said = lift(state, which)
    assert said.startswith("gate release 3: will be tried again at the next reload")
    assert set(quarantined(state)) == {B}
    assert Probation(state / "probation").has_passed(C, "onnxruntime 1.23")


def test_lift_takes_every_release_of_a_model(state: Path):
    Probation(state / "probation").quarantine("d" * 64, "gate", 4, "why")
    assert "gate release 3, gate release 4" in lift(state, "gate")
    assert set(quarantined(state)) == {B}


@pytest.mark.parametrize("which", ["nobody", "", A[:7], "a", C, C[:12], "../../etc"])
def test_lift_of_what_is_not_in_it(state: Path, which: str):
    with pytest.raises(NotFoundError) as caught:
        lift(state, which)
    assert caught.value.message == (
        f'"{which[:80]}" is not in quarantine; in it are: gate ({A[:12]}), door ({B[:12]})'
    )
    assert set(quarantined(state)) == {A, B}


def test_lift_with_nothing_in_it(tmp_path: Path):
    with pytest.raises(NotFoundError, match="in it are: none"):
        lift(tmp_path, "gate")


def test_lift_on_a_read_only_disk(state: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(module.Path, "unlink", refuse)
    with pytest.raises(ApplyError, match="cannot be lifted: Read-only file system"):
        lift(state, "gate")


def test_a_time_that_is_none(state: Path):
    """A damaged file is shown all the same."""
    Probation(state / "probation", lambda: 1e300).quarantine(A, "gate", 3, "why")
    assert "gate release 3" in render(quarantined(state))
