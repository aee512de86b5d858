"""How reloads end, as they are counted."""

from __future__ import annotations

from edged.generation.reload_tally import ReloadTally, Report


def test_how_reloads_end():
    tally, good = ReloadTally(), Report(applied=True, at=1.0)
    tally.start(good, 1)
    tally.note(good, 1)  # somebody was writing
    tally.note(Report(applied=True, at=2.0), 1)
    tally.note(Report(applied=True, at=3.0), 2)
    tally.note(Report(applied=False, at=4.0, problems=("x",)), 2)
    tally.note(Report(applied=True, at=5.0), 2)  # mended
    assert tally.counts == {"applied": 1, "unchanged": 2, "refused": 1, "postponed": 1}
