"""The loop's stay on one core: what it moves, what it leaves alone, and whether it is worth it."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from edged import boot
from edged.serving.instance_threads import InstanceThreads
from edged.serving.memory.loader_thread import make_loader_thread
from edged.serving.scheduling.turn import Turn
from edged.serving.workshop import Workshop
from edged.system import cores
from edged.system.cores import Stay, spread, usable

ALL = frozenset(os.sched_getaffinity(0))
several = pytest.mark.skipif(len(ALL) < 2, reason="a stay needs two cores")


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test leaves behind is put right, as for a process that begins."""
    monkeypatch.setattr(cores, "_before", frozenset())
    monkeypatch.setattr(cores, "_all", frozenset())
    yield
    os.sched_setaffinity(0, ALL)


def in_loop(act: Callable[[Stay], None]) -> None:
    async def main() -> None:
        act(Stay())

    asyncio.run(main())


@several
@pytest.mark.usefixtures("masks")
class TestStay:
    def test_moves_its_thread_alone_and_back(self):
        elsewhere: list[set[int]] = []
        told, done = threading.Event(), threading.Event()

        def other() -> None:
            told.wait(20)
            elsewhere.append(os.sched_getaffinity(0))
            done.set()

        thread = threading.Thread(target=other)
        thread.start()

        def act(stay: Stay) -> None:
            for core in sorted(ALL):
                assert stay.at(core)
                assert stay.core == core
                assert os.sched_getaffinity(0) == {core}
                assert set(usable()) == ALL
            told.set()
            done.wait(20)
            stay.leave()
            assert os.sched_getaffinity(0) == ALL
            assert (stay.core, set(usable())) == (-1, ALL)
            stay.leave()

        in_loop(act)
        thread.join()
        assert elsewhere == [ALL]

    @pytest.mark.parametrize("core", [-1, max(ALL) + 1, 1 << 70])
    def test_not_where_it_may_not_run(self, core: int):
        def act(stay: Stay) -> None:
            assert not stay.at(core)
            assert stay.core == -1
            assert os.sched_getaffinity(0) == ALL

        in_loop(act)

    def test_not_where_it_may_not_say_so(self, monkeypatch: pytest.MonkeyPatch):
        def refuse(*_: object) -> None:
            raise PermissionError(1, "not permitted")

        def act(stay: Stay) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(os, "sched_setaffinity", refuse)
                assert not stay.at(min(ALL))
            assert not stay.at(min(ALL))  # nor is it tried again
            assert set(usable()) == ALL

        in_loop(act)

    def test_ends_by_itself(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(cores, "_QUIET_S", 0.01)

        async def main() -> None:
            stay = Stay()
            stay.at(min(ALL))
            while stay.core >= 0:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            assert os.sched_getaffinity(0) == ALL

        asyncio.run(asyncio.wait_for(main(), 20))

    def test_threads_that_begin_meanwhile_may_run_everywhere(self):
        def act(stay: Stay) -> None:
            stay.at(min(ALL))
            with ThreadPoolExecutor(1) as plain, ThreadPoolExecutor(1, initializer=spread) as ours:
                assert plain.submit(os.sched_getaffinity, 0).result() == {min(ALL)}
                assert ours.submit(os.sched_getaffinity, 0).result() == ALL
            late = threading.Event()
            found: list[set[int]] = []

            def begin_late() -> None:
                late.wait(20)
                spread()
                found.append(os.sched_getaffinity(0))

            thread = threading.Thread(target=begin_late)
            thread.start()
            stay.leave()
            late.set()
            thread.join()
            assert found == [ALL]

        in_loop(act)


def of_the_loop() -> set[int]:
    class Daemon:
        async def run(self) -> None:
            found.append(await asyncio.to_thread(os.sched_getaffinity, 0))

    found: list[set[int]] = []
    asyncio.run(boot._main(Daemon))
    return found[0]


def of_loads() -> set[int]:
    with make_loader_thread() as thread:
        return thread.submit(os.sched_getaffinity, 0).result()


def of_runs() -> set[int]:
    found: queue.SimpleQueue[set[int]] = queue.SimpleQueue()

    def job() -> None:
        found.put(os.sched_getaffinity(0))

    threads = InstanceThreads("edged-test")
    threads.submit(job, 1)
    threads.close(None)
    return found.get(timeout=20)


def of_steps() -> set[int]:
    found: queue.SimpleQueue[set[int]] = queue.SimpleQueue()

    async def main() -> None:
        workshop = Workshop(Turn())
        workshop.do(lambda: found.put(os.sched_getaffinity(0)), lambda _: None)
        masks.append(found.get(timeout=20))
        workshop.close()

    masks: list[set[int]] = []
    asyncio.run(main())
    return masks[0]


@several
@pytest.mark.usefixtures("masks")
@pytest.mark.parametrize("threads", [of_the_loop, of_loads, of_runs, of_steps])
def test_threads_of_the_daemon(threads: Callable[[], set[int]]):
    found: list[set[int]] = []

    async def main() -> None:
        assert Stay().at(min(ALL))
        thread.start()  # with the mask of this one, as the loop would

    thread = threading.Thread(target=lambda: found.append(threads()))
    asyncio.run(main())
    thread.join()
    assert found == [ALL]


@several
@pytest.mark.usefixtures("masks")
def test_who_was_given_one_core_keeps_it():
    found: list[set[int]] = []

    def alone() -> None:
        os.sched_setaffinity(0, {min(ALL)})
        spread()
        found.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=alone)
    thread.start()
    thread.join()
    assert found == [{min(ALL)}]
