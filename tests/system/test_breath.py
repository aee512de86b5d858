"""Who works beside the loop rests now and then; nobody else ever does."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edged.system import breath
from edged.system.breath import beside_loop, breathe, give_way, long_work, wake_exactly


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


def test_the_loop_gives_way_for_a_moment_and_nobody_else_does(rests: list[float]) -> None:
    give_way()
    assert rests == []
    with beside_loop():
        give_way()
    assert len(rests) == 1
    assert rests[0] > 0


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


class TestPatience:
    """How long a thread waits for the interpreter before it takes it from the loop."""

    @pytest.fixture(autouse=True)
    def _usual(self) -> Iterator[None]:
        before = sys.getswitchinterval()
        breath._wait_for(1e-4)
        yield
        try:
            assert sys.getswitchinterval() == pytest.approx(1e-4)  # whatever happened
        finally:
            breath._wait_for(before)

    def test_is_longer_while_one_works_beside_the_loop(self) -> None:
        found: list[float] = []

        def work() -> None:
            found.append(sys.getswitchinterval())

        with beside_loop():
            on_a_thread(lambda: long_work(work))
            long_work(work)  # the loop's own thread
        on_a_thread(lambda: long_work(work))  # no loop
        assert found == pytest.approx([breath._PATIENCE_S, 1e-4, 1e-4])

    def test_until_the_last_of_them_is_done(self) -> None:
        found: list[float] = []
        inner, outer = threading.Event(), threading.Event()

        def first() -> None:
            inner.set()
            assert outer.wait(10)
            found.append(sys.getswitchinterval())

        def second() -> None:
            raise ValueError("it went wrong")

        def fails() -> None:
            with pytest.raises(ValueError, match="went wrong"):
                long_work(second)

        with beside_loop():
            thread = threading.Thread(target=long_work, args=(first,))
            thread.start()
            assert inner.wait(10)
            on_a_thread(fails)
            outer.set()
            thread.join()
        assert found == pytest.approx([breath._PATIENCE_S])

    def test_is_not_made_shorter(self) -> None:
        found: list[float] = []
        breath._wait_for(5e-3)
        with beside_loop():
            on_a_thread(lambda: long_work(lambda: found.append(sys.getswitchinterval())))
        assert found == pytest.approx([5e-3])
        assert sys.getswitchinterval() == pytest.approx(5e-3)
        breath._wait_for(1e-4)

    def test_many_changes_leave_it_as_it_was(self) -> None:
        """Python keeps whole microseconds, and gives back a little less."""
        with beside_loop():
            on_a_thread(lambda: [long_work(int) for _ in range(50)] and None)
        assert sys.getswitchinterval() == pytest.approx(1e-4)

    def test_what_it_came_to_is_told(self) -> None:
        assert long_work(max, 1, 2, key=lambda one: -one) == 1
