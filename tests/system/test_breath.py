"""Who works beside the loop rests now and then; nobody else ever does."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edged.system import breath
from edged.system.breath import beside_loop, breathe, wake_exactly


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The lengths of rests, while the clock that is asked goes on by 40 us a look."""
    found: list[float] = []
    now = [1.0]

    def look() -> float:
        now[0] += 40e-6
        return now[0]

    monkeypatch.setattr(time, "perf_counter", look)
    monkeypatch.setattr(time, "sleep", found.append)
    yield found
    assert not breath._loop_thread


def on_a_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def pieces() -> None:
    for _ in range(40):
        breathe()


def test_a_thread_beside_the_loop_rests_every_few_pieces(rests: list[float]) -> None:
    with beside_loop():
        on_a_thread(pieces)
    assert 5 <= len(rests) <= 14
    assert min(rests) > 0  # none of no length: it would have the interpreter back at once


def test_the_loop_itself_never_does(rests: list[float]) -> None:
    with beside_loop():
        pieces()
    assert rests == []


def test_nor_anybody_while_there_is_none_to_let_in(rests: list[float]) -> None:
    on_a_thread(pieces)
    with beside_loop():
        pass
    on_a_thread(pieces)
    assert rests == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's slack is Linux's")
def test_its_rests_end_when_they_should() -> None:
    found: list[str] = []

    def look() -> None:
        wake_exactly()
        own = Path(f"/proc/self/task/{threading.get_native_id()}")
        slack = Path(f"/proc/{threading.get_native_id()}/timerslack_ns")
        found.append(slack.read_text().strip() if own.exists() and slack.exists() else "")

    on_a_thread(look)
    if not found[0]:
        pytest.skip("this kernel does not show it")
    assert int(found[0]) == breath._SLACK_NS
