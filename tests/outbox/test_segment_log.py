"""The log: order, caps, policies, damage, a full disk, and the power cut."""

from __future__ import annotations

import random

import pytest

from edged.outbox.age import Moment
from edged.outbox.entry import NO_ID, Entry, Policy
from edged.outbox.segment_log import SegmentLog
from tests.fakes.cut_disk import CutDisk

S = 10**9
BOOT = b"8 bytes."
BLOCK, OLDEST, LATEST = Policy.BLOCK, Policy.DROP_OLDEST, Policy.LATEST_ONLY
CAP = 600_000


def opened(disk: CutDisk, cap: int = CAP, age_s: int = 0, boot: bytes = BOOT) -> SegmentLog:
    log = SegmentLog(disk, cap, age_s * S, boot)
    log.open()
    return log


def entry(
    number: int, size: int = 10, policy: Policy = BLOCK, key: bytes = b"k", **kw: object
) -> Entry:
    written = Moment(BOOT, number * S, 0)
    return Entry(key, b"%d " % number + b"x" * size, written, 0, policy, **kw)  # type: ignore[arg-type]


def put(log: SegmentLog, *numbers: int, **kw: object) -> list[bool]:
    kept = [log.append(entry(number, **kw)) for number in numbers]  # type: ignore[arg-type]
    log.sync()
    return kept


def put_all(log: SegmentLog, policy: Policy = BLOCK) -> None:
    """As many as go."""
    one = 0
    while log.append(entry(one, 500, policy)):
        one += 1


def number(found: Entry) -> int:
    return int(found.data.split()[0])


def drained(log: SegmentLog) -> list[int]:
    """Read and finish all there is."""
    numbers = []
    while found := log.read(50):
        numbers += [number(one) for one in found]
        log.finish([one.sequence for one in found])
    return numbers


def test_in_order_and_gone_when_finished() -> None:
    disk = CutDisk()
    log = opened(disk, 2 * CAP)
    put(log, *range(5000), size=50)
    assert len(disk.names()) > 5
    assert log.live == 5000
    assert drained(log) == list(range(5000))
    assert log.live == 0
    assert len(disk.names()) == 2  # the marks, and the file that is written to
    put(log, 1, 2)
    assert drained(log) == [1, 2]


def test_what_is_not_finished_comes_again_after_a_kill_and_is_marked() -> None:
    disk = CutDisk()
    log = opened(disk, 2 * CAP)
    put(log, *range(6000))
    first = log.read(1)
    log.finish([one.sequence for one in first[:100]])
    again = opened(disk.after_kill())
    found = again.read(1)
    assert number(found[0]) == 100
    assert found[0].may_be_sent  # it was read: the broker may have it
    numbers = [number(one) for one in found] + drained(again)
    assert numbers == list(range(100, 6000))


def test_what_was_never_given_out_is_not_marked() -> None:
    disk = CutDisk()
    put(opened(disk), 1, 2)
    found = opened(disk.after_kill()).read(9)
    assert [one.may_be_sent for one in found] == [False, False]
    log = opened(disk, 10 * CAP)
    put(log, *range(3, 9000))
    log.read(1)
    log = opened(disk.after_kill(), 10 * CAP)
    found = [one for _ in range(5) for one in log.read(9000)]
    assert (found[0].may_be_sent, found[-1].may_be_sent) == (True, False)


def test_without_the_marks_all_is_given_out_again_and_marked() -> None:
    disk = CutDisk()
    log = opened(disk)
    put(log, 1, 2)
    drained(log)
    put(log, 3)
    disk.remove("marks")
    file = disk.open("marks", create=True)
    disk.close(file)
    found = opened(disk.after_kill()).read(9)
    assert [(number(one), one.may_be_sent) for one in found] == [(n, True) for n in (1, 2, 3)]


def test_damage_is_jumped_over_and_counted() -> None:
    disk = CutDisk()
    log = opened(disk)
    put(log, *range(10))
    size = entry(1).size_bytes
    name = disk.names()[0]
    disk.damage(name, 32 + 3 * size + 20)
    found = opened(disk.after_kill())
    assert drained(found) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert (found.tally.corrupt, found.tally.torn) == (1, 0)
    assert found.live == 0 or len(found._segments) == 1


def test_damage_while_we_run() -> None:
    disk = CutDisk()
    log = opened(disk)
    put(log, *range(1000), size=100)
    disk.damage(disk.names()[0], 32 + 20)
    assert drained(log) == list(range(1, 1000))
    assert log.tally.corrupt == 1
    assert len(disk.names()) == 2, "a file must not stay for want of one entry"


def test_a_torn_end_is_cut_and_written_over() -> None:
    disk = CutDisk()
    log = opened(disk)
    put(log, 1, 2)
    name = disk.names()[0]
    file = disk.open(name)
    disk.cut(file, disk.size(file) - 5)
    log = opened(disk.after_kill())
    assert (log.tally.torn, log.tally.corrupt) == (1, 0)
    put(log, 3)
    assert drained(log) == [1, 3]


def test_a_log_that_cannot_be_read_at_all() -> None:
    disk = CutDisk()
    disk.open("00000000000000000001.log", create=True)
    log = opened(disk)
    assert log.tally.torn == 1
    put(log, 1)
    assert drained(log) == [1]


class TestCaps:
    def test_block_is_refused_when_full_and_taken_again_when_drained(self) -> None:
        disk = CutDisk()
        log = opened(disk)
        count = 0
        while log.append(entry(count, 500)):
            count += 1
        assert disk.used <= CAP
        assert count > 500
        assert not log.append(entry(count, 500))
        found = log.read(1)
        while len(found) < 200:
            found += log.read(1)
        log.finish([one.sequence for one in found])
        assert log.append(entry(count, 500))
        assert [number(one) for one in found] + drained(log) == list(range(count + 1))
        assert log.tally.dropped == 0

    def test_drop_oldest_keeps_the_newest_and_counts(self) -> None:
        disk = CutDisk()
        log = opened(disk)
        assert all(put(log, *range(3000), size=500, policy=OLDEST))
        assert disk.used <= CAP
        numbers = drained(log)
        assert numbers == list(range(numbers[0], 3000))
        assert log.tally.dropped == 3000 - len(numbers) > 1000

    def test_what_may_be_dropped_gives_way_to_what_may_not(self) -> None:
        log = opened(CutDisk())
        put(log, *range(3000), size=500, policy=OLDEST)
        assert all(put(log, *range(5000, 5300), size=500, policy=BLOCK))
        numbers = drained(log)
        assert numbers[-300:] == list(range(5000, 5300))

    def test_blocking_ones_are_never_dropped(self) -> None:
        log = opened(CutDisk())
        put(log, *range(100), size=500)
        put(log, *range(1000, 4000), size=500, policy=OLDEST)
        assert [one for one in drained(log) if one < 1000] == list(range(100))

    def test_latest_only_has_the_last_of_each_key_in_order(self) -> None:
        disk = CutDisk()
        log = opened(disk)
        put(log, 7, size=500, policy=LATEST, key=b"silent")
        for one in range(6000):
            log.append(entry(one, 500, LATEST, b"%d" % (one % 20)))
            assert disk.used <= CAP
        log.sync()
        assert log.live == 21
        for found in (opened(disk.after_kill()), log):
            # The silent one was carried from file to file: it is the only one of its key.
            assert sorted(drained(found)) == sorted([7, *range(5980, 6000)])
        assert (log.tally.superseded, log.tally.dropped) == (5980, 0)

    def test_latest_only_leaves_what_is_on_its_way(self) -> None:
        log = opened(CutDisk())
        put(log, 1, policy=LATEST)
        found = log.read(9)
        log.given.update(one.sequence for one in found)
        put(log, 2, policy=LATEST)
        assert log.live == 2
        log.finish([one.sequence for one in found])
        assert drained(log) == [2]
        assert log.live == 0

    def test_keys_without_end_cost_no_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edged.outbox.segment_log._MOST_KEYS", 5)
        log = opened(CutDisk())
        for one in range(50):
            put(log, one, policy=LATEST, key=b"%d" % one)
        put(log, 50, policy=LATEST, key=b"3")
        assert len(log._latest) == 5
        assert drained(log) == [one for one in range(51) if one != 3]

    @pytest.mark.hostile("E12 an outbox at its cap")
    def test_more_than_the_cap(self) -> None:
        log = opened(CutDisk())
        assert not log.fits(entry(1, CAP))
        assert not log.append(entry(1, CAP, OLDEST))

    def test_ages(self) -> None:
        disk = CutDisk()
        log = opened(disk, age_s=100)
        put(log, *range(200), size=2000)
        log.expire(Moment(BOOT, 200 * S, 0))
        assert 80 < log.tally.expired <= 100
        assert log.live == 200 - log.tally.expired
        assert log.oldest_ns(Moment(BOOT, 200 * S, 0)) <= 120 * S


class TestIds:
    def test_known_after_the_entry_is_gone_and_after_a_restart(self) -> None:
        disk = CutDisk()
        log = opened(disk)
        ids = [b"%016d" % one for one in range(2000)]
        for one in ids:
            log.append(entry(1, 500, OLDEST, id=one))
        log.sync()
        assert log.tally.dropped > 100
        drained(log)
        again = opened(disk.after_kill())
        for found in (log, again):
            assert all(found.holds(one) for one in ids)
            assert not found.holds(NO_ID)


class TestSeveral:
    def test_in_order_among_others(self) -> None:
        disk = CutDisk()
        log = opened(disk)
        assert not log.append_all([entry(0)]), "there is no file yet"
        put(log, 0)
        assert log.append_all([entry(1), entry(2, policy=OLDEST, id=b"i" * 16)])
        put(log, 3)
        assert log.holds(b"i" * 16)
        assert drained(log) == [0, 1, 2, 3]
        assert log.live == 0

    def test_what_wants_a_look_of_its_own(self) -> None:
        log = opened(CutDisk())
        put(log, 0)
        assert not log.append_all([entry(1), entry(2, policy=LATEST)])
        assert not log.append_all([entry(1, CAP)]), "no room"
        assert not log.append_all([entry(1, 30_000), entry(2, 30_000)]), "not into this file"
        assert drained(log) == [0]


class TestFullDisk:
    def test_a_failed_write_changes_nothing(self) -> None:
        disk = CutDisk(capacity=200_000)
        log = opened(disk)
        with pytest.raises(OSError, match="No space"):
            put_all(log)
        count = log.live
        log.sync()
        assert drained(opened(disk.after_kill())) == list(range(count))
        # It drains although not one byte more fits, and then there is room again.
        assert drained(log) == list(range(count))
        assert all(put(log, 1, 2))

    def test_several_that_fail_together_leave_nothing(self) -> None:
        disk = CutDisk()
        log = opened(disk)
        put(log, 0)
        assert log.append_all([entry(1), entry(2)])
        disk.capacity = disk.used + 1000
        with pytest.raises(OSError, match="No space"):
            log.append_all([entry(3), entry(4, 900), entry(5, 900)])
        disk.capacity = 1 << 40
        assert log.append_all([entry(6), entry(7)])
        log.sync()
        assert drained(opened(disk.after_kill())) == [0, 1, 2, 6, 7] == drained(log)

    def test_the_oldest_give_way_on_a_full_disk(self) -> None:
        disk = CutDisk(capacity=200_000)
        log = opened(disk)
        with pytest.raises(OSError, match="No space"):
            put_all(log, policy=OLDEST)
        before = log.live
        assert log.give_up_oldest()
        assert log.append(entry(2, 500, OLDEST))
        assert log.tally.dropped == before + 1 - log.live
        while log.give_up_oldest():
            pass
        assert log.live == 0


def lost_in_cut(seed: int, *, syncs: bool) -> int:
    """Write, read and finish at random, cut the power, and count what was promised and is gone."""
    rng = random.Random(seed)
    disk = CutDisk(syncs=syncs)
    log = opened(disk, boot=b"%08d" % 0)
    promised: set[int] = set()
    finished: set[int] = set()
    count = 0
    for boot in range(1, 4):
        batch: list[int] = []
        for _ in range(rng.randrange(1, 60)):
            act = rng.random()
            if act < 0.2:
                many = [entry(count + one, rng.choice([5, 50, 5000])) for one in range(4)]
                if log.append_all(many):
                    batch += range(count, count + 4)
                    count += 4
            elif act < 0.6:
                if log.append(entry(count, rng.choice([5, 50, 5000]))):
                    batch.append(count)
                    count += 1
            elif act < 0.8:
                log.sync()
                promised.update(batch)
                batch = []
            else:
                found = log.read(1)
                end = rng.randrange(len(found) + 1)
                log.finish([one.sequence for one in found[:end]])
                finished.update(number(one) for one in found[:end])
        disk = disk.after_cut(rng)
        disk._syncs = syncs
        log = opened(disk, boot=b"%08d" % boot)
    numbers = drained(log)
    assert numbers == sorted(set(numbers)), "out of order, or twice"
    assert set(numbers) <= set(range(count))
    return len(promised - finished - set(numbers))


def test_a_power_cut_loses_nothing_that_was_synced() -> None:
    assert [seed for seed in range(200) if lost_in_cut(seed, syncs=True)] == []


def test_control_a_sync_that_only_pretends_is_noticed() -> None:
    assert sum(lost_in_cut(seed, syncs=False) for seed in range(50)) > 100
