"""Failed builds are remembered, also those that nobody was left to tell of."""

from __future__ import annotations

import pytest

from edged.engines.attempts import UNENDED, Attempt, Attempts


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "engines"


def test_one_that_brought_the_device_down_counts(folder):
    Attempts(folder).begin("a")
    assert Attempts(folder).get("a") == Attempt(1, UNENDED)
    Attempts(folder).begin("a")
    assert Attempts(folder).get("a").failures == 2
    assert Attempts(folder).get("b") == Attempt()


def test_one_that_ended_well_is_forgotten(folder):
    attempts = Attempts(folder)
    attempts.begin("a")
    attempts.note("b", Attempt(2, "no memory"))
    attempts.note("a", Attempt())
    assert Attempts(folder).get("a") == Attempt()
    assert Attempts(folder).get("b") == Attempt(2, "no memory")


def test_the_oldest_are_forgotten(folder, monkeypatch):
    monkeypatch.setattr("edged.engines.attempts._KEPT", 3)
    attempts = Attempts(folder)
    for number in range(5):
        attempts.note(str(number), Attempt(1, "x"))
    known = Attempts(folder)
    assert [known.get(str(number)).failures for number in range(5)] == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("data", [b"", b"[]", b'{"a": {"failures": "x"}}', b"\xff"])
def test_a_damaged_note_is_none(folder, data):
    folder.mkdir()
    (folder / "attempts.json").write_bytes(data)
    attempts = Attempts(folder)
    assert attempts.get("a") == Attempt()
    attempts.begin("a")
    assert Attempts(folder).get("a").failures == 1


def test_without_a_disk_they_hold_for_this_life(tmp_path):
    (tmp_path / "file").write_text("")
    attempts = Attempts(tmp_path / "file" / "engines")
    attempts.begin("a")
    assert attempts.get("a").failures == 1
