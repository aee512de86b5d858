"""Keeping states: reported when they are safe, one write for many, and a disk that fails is said."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from edged.outbox.state_keeper import StateKeeper
from tests.fakes.cut_disk import CutDisk


def at_once(act: Callable[[], None]) -> None:
    act()


def test_reported_when_it_or_a_newer_one_is_safe() -> None:
    disk = CutDisk()
    keeper = StateKeeper(disk, at_once)
    keeper.open()
    kept: list[str] = []
    keeper.put(b"a", b"1", lambda: kept.append("first"))
    keeper.put(b"a", b"2", lambda: kept.append("second"))
    keeper.put(b"b", b"3")
    assert kept == []
    keeper.step()
    assert kept == ["first", "second"]
    assert keeper.stats()["kept"] == 2
    keeper.step()
    keeper.stop()
    assert StateKeeper(disk.after_kill(), at_once).open() == {b"a": b"2", b"b": b"3"}


def test_a_full_disk_is_tried_again_and_newer_states_win() -> None:
    disk = CutDisk(capacity=600)
    keeper, said = StateKeeper(disk, at_once), []
    keeper.on_change = lambda: said.append(keeper.problem)
    keeper.open()
    kept: list[str] = []
    keeper.put(b"a", bytes(1000), lambda: kept.append("a"))
    keeper.step()
    assert kept == []
    assert "cannot be written" in keeper.problem
    keeper.put(b"a", b"small", lambda: kept.append("newer"))
    disk.capacity = 1 << 20
    keeper.step()
    assert kept == ["a", "newer"]
    assert [bool(problem) for problem in said] == [True, False]
    keeper.stop()
    assert StateKeeper(disk.after_kill(), at_once).open() == {b"a": b"small"}


def test_a_disk_that_does_not_keep_ends_it() -> None:
    disk = CutDisk()
    keeper = StateKeeper(disk, at_once)
    keeper.open()
    disk.fails_sync = True
    kept: list[str] = []
    keeper.put(b"a", b"1", lambda: kept.append("a"))
    keeper.step()
    disk.fails_sync = False
    keeper.put(b"b", b"1", lambda: kept.append("b"))
    keeper.step()
    assert kept == []
    assert "restart the daemon" in keeper.problem


def test_its_thread_on_a_real_disk(tmp_path: Path) -> None:
    keeper = StateKeeper.in_folder(tmp_path / "states", at_once)
    assert keeper.open() == {}
    keeper.start()
    kept = threading.Event()
    keeper.put(b"a", b"1", kept.set)
    assert kept.wait(60)
    keeper.put(b"b", b"2")
    keeper.stop()
    again = StateKeeper.in_folder(tmp_path / "states", at_once)
    assert again.open() == {b"a": b"1", b"b": b"2"}
    again.stop()
