"""What is remembered of rollouts, and what a damaged file counts as."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.rollout.judge import Phase
from edged.rollout.ledger import Entry, Ledger
from edged.rollout.tally import Moments
from edged.system.atomic import write_atomically


def ledger(path: Path) -> Ledger:
    made = Ledger(path / "rollouts", write_atomically)
    made.read()
    return made


def saved(path: Path, *entries: Entry) -> Ledger:
    made = ledger(path)
    for entry in entries:
        made.begin("m", entry, 50.0)
    made.save("m", made.snapshot("m"))
    return made


def test_goes_on_where_it_was(tmp_path: Path):
    entry = Entry("a", 1, 2, began=5.0)
    entry.tally.side(2).note(None, 1000)
    entry.tally.elapsed_ns = 7
    saved(tmp_path, entry)
    assert ledger(tmp_path).entry("m", "a") == entry
    assert ledger(tmp_path).entry("m", "b") is None
    assert ledger(tmp_path).entry("n", "a") is None


def test_those_that_ended_are_kept_and_the_oldest_go(tmp_path: Path):
    entries = [Entry(str(number), 1, number) for number in range(2, 40)]
    for entry in entries[:-1]:
        entry.move(Phase.ROLLED_BACK, "slow", 9.0)
    saved(tmp_path, *entries)
    before = ledger(tmp_path).before("m")
    assert [one.canary for one in before] == list(range(19, 39))
    assert before[0].ended == 9.0


def test_one_that_comes_back_goes_on_where_it_was(tmp_path: Path):
    """Its section was another one meanwhile, say until a generation was rolled back."""
    first, other = Entry("a", 1, 2), Entry("b", 1, 3)
    first.move(Phase.ROLLED_BACK, "slow", 9.0)
    saved(tmp_path, first, other)
    again = ledger(tmp_path)
    found = again.entry("m", "a")
    assert found == first
    assert again.before("m") == [first], "asked for only: a table may never come to serve"
    again.begin("m", found, 60.0)
    other = again.before("m")[0]
    assert (other.identity, again.entry("m", "b")) == ("b", other)
    again.begin("m", other, 70.0)
    assert again.before("m") == [first]


def test_when_one_was_replaced_is_noted_until_it_comes_back(tmp_path: Path):
    first, other = Entry("a", 1, 2), Entry("b", 1, 3)
    kept = saved(tmp_path, first, other)
    assert (first.ended, other.ended) == (50.0, 0.0)
    kept.begin("m", first, 60.0)
    assert (first.ended, other.ended) == (0.0, 60.0)
    first.move(Phase.ABORTED, "by an operator", 70.0)
    kept.begin("m", other, 80.0)
    kept.begin("m", first, 90.0)
    assert (first.ended, other.ended) == (70.0, 90.0), "an end is the end"


def test_what_is_written_can_be_read(tmp_path: Path):
    entries = [Entry(str(number), 1, number) for number in range(2, 12)]
    for entry in entries:
        entry.tally.moments = {f"in.{'x' * 2000}{at}": Moments() for at in range(80)}
    saved(tmp_path, *entries)
    again = ledger(tmp_path)
    assert again.entry("m", "11") == entries[-1]
    assert 0 < len(again.before("m")) < 9


def test_the_same_one_begins_once(tmp_path: Path):
    entry = Entry("a", 1, 2)
    assert saved(tmp_path, entry, entry).before("m") == []


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"now":{"identity":1}}', b"\xff" * 9, b"[" * 3000], ids=repr
)
def test_a_damaged_file_counts_as_none(tmp_path: Path, data: bytes):
    saved(tmp_path, Entry("a", 1, 2))
    (tmp_path / "rollouts" / "m.json").write_bytes(data)
    found = ledger(tmp_path)
    assert found.entry("m", "a") is None
    found.begin("m", Entry("a", 1, 2), 60.0)
    found.save("m", found.snapshot("m"))
    assert ledger(tmp_path).entry("m", "a") is not None


def test_a_link_is_not_followed(tmp_path: Path):
    saved(tmp_path, Entry("a", 1, 2))
    file = tmp_path / "rollouts" / "m.json"
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert ledger(tmp_path).entry("m", "a") is None


def test_an_end_is_the_end():
    entry = Entry("a", 1, 2)
    entry.move(Phase.PASSED, "good", 3.0)
    assert entry.ended == 0
    entry.move(Phase.PROMOTED, "by an operator", 4.0)
    assert entry.ended == 4.0
    with pytest.raises(AssertionError, match="does not follow"):
        entry.move(Phase.ROLLED_BACK, "late", 5.0)
