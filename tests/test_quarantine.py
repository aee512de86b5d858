"""``edged quarantine``: what an operator sees, and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.errors import ApplyError, NotFoundError
from edged.quarantine import lift, quarantined, render
from edged.store.probation import Probation

ONE, TWO, FINE = "1" * 64, "2" * 64, "f" * 64


@pytest.fixture
def state(tmp_path: Path) -> Path:
    probation = Probation(tmp_path / "probation", now=lambda: 1_800_000_000.0)
    probation.quarantine(ONE, "gate", 3, "its trial died of SIGSEGV")
    probation.quarantine(TWO, "gate", 4, "its worker died on and on")
    probation.note_passed(FINE, "door", 1, "onnxruntime 1.32.0")
    return tmp_path


def test_shown_with_reason_and_date(state: Path) -> None:
    assert set(quarantined(state)) == {ONE, TWO}
    text = render(quarantined(state))
    assert "gate release 3  111111111111  since 2027-01-15 08:00 UTC" in text
    assert "its trial died of SIGSEGV" in text
    assert "door" not in text


def test_nothing_in_quarantine(tmp_path: Path) -> None:
    assert render(quarantined(tmp_path)) == "no release is in quarantine"


@pytest.mark.parametrize(
    ("which", "left"), [("gate", set()), (ONE[:12], {TWO}), (TWO, {ONE}), (ONE[:8], {TWO})]
)
def test_lift(state: Path, which: str, left: set[str]) -> None:
    assert "tried again" in lift(state, which)
    assert set(quarantined(state)) == left
    Probation(state / "probation").admit(ONE if ONE not in left else TWO)


@pytest.mark.parametrize("which", ["door", ONE[:7], "", FINE, "../gate"])
def test_lift_what_is_not_in_it(state: Path, which: str) -> None:
    with pytest.raises(NotFoundError, match=r"in it are: gate \(111111111111\), gate"):
        lift(state, which)
    assert set(quarantined(state)) == {ONE, TWO}


def test_lift_on_a_disk_that_takes_nothing(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(ApplyError, match="Read-only"):
        lift(state, "gate")
