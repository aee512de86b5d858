"""States on disk: what was synced survives, whatever is cut when; the file does not grow for ever."""

from __future__ import annotations

import random

import pytest

from edged.outbox.states import StateLog
from tests.fakes.cut_disk import CutDisk


def opened(disk: CutDisk) -> tuple[StateLog, dict[bytes, bytes]]:
    log = StateLog(disk)
    return log, log.open()


def test_the_newest_of_each_key_is_found_again() -> None:
    disk = CutDisk()
    log, found = opened(disk)
    assert found == {}
    for key, state in ((b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"c", b"3"), (b"b", b"")):
        log.write(key, state)
    log.sync()
    log.close()
    assert opened(disk.after_kill())[1] == {b"a": b"2", b"c": b"3"}


def test_it_is_rewritten_when_it_is_mostly_old() -> None:
    disk = CutDisk()
    log, _ = opened(disk)
    log.write(b"idle", b"kept")
    for number in range(5000):
        log.write(b"busy", b"%d" % number + bytes(1000))
        assert log.bytes_on_disk < 2 << 20
    log.sync()
    assert len(disk.names()) == 1
    found = opened(disk.after_kill())[1]
    assert found[b"idle"] == b"kept"
    assert found[b"busy"].startswith(b"4999")


@pytest.mark.parametrize("syncs", [True, False])
def test_a_power_cut_takes_nothing_that_was_synced(syncs: bool) -> None:
    """Without syncs, the negative control, something is lost."""
    lost = 0
    for seed in range(60):
        rng = random.Random(seed)
        disk = CutDisk(syncs=syncs)
        newest: dict[bytes, bytes] = {}
        may_be: dict[bytes, set[bytes]] = {}
        log, _ = opened(disk)
        for _ in range(rng.randrange(1, 40)):
            key, state = b"%d" % rng.randrange(5), rng.randbytes(rng.choice((5, 50, 90_000)))
            log.write(key, state)
            may_be.setdefault(key, {b""}).add(state)
            newest[key] = state
            if rng.random() < 0.4:
                log.sync()
                may_be = {one: {newest[one]} for one in may_be}
        found = opened(disk.after_cut(rng))[1]
        lost += any(found.get(key, b"") not in states for key, states in may_be.items())
    assert (lost == 0) is syncs


def test_a_damaged_record_costs_itself() -> None:
    disk = CutDisk()
    log, _ = opened(disk)
    log.write(b"a", b"first")
    log.write(b"b", b"second")
    log.sync()
    (name,) = disk.names()
    content = disk._files[name].content
    content[content.index(b"first")] ^= 1
    log, found = opened(disk)
    assert (found, log.damaged) == ({b"b": b"second"}, 1)


def test_a_full_disk_keeps_what_was_there() -> None:
    disk = CutDisk(capacity=4000)
    log, _ = opened(disk)
    log.write(b"a", b"1")
    log.sync()
    with pytest.raises(OSError, match="space"):
        log.write(b"a", bytes(5000))
    log.write(b"b", b"2")
    log.sync()
    assert opened(disk.after_kill())[1] == {b"a": b"1", b"b": b"2"}
