"""The threads of a release: their order, and how they end."""

from __future__ import annotations

import queue
import threading

import pytest

from edged.serving.instance_threads import InstanceThreads
from tests.fakes.worker import wait_until


class TestInstanceThreads:
    def test_one_runs_in_order_beside_the_caller(self):
        threads = InstanceThreads("edged-test")
        done = threading.Event()
        seen: list[tuple[int, int]] = []
        for n in range(50):
            threads.submit(lambda n=n: seen.append((n, threading.get_ident())), 1)
        threads.submit(done.set, 1)
        assert done.wait(10)
        assert [n for n, _ in seen] == list(range(50))
        idents = {ident for _, ident in seen}
        assert len(idents) == 1
        assert threading.get_ident() not in idents
        threads.close(None)

    def test_as_many_as_are_wanted_at_once_and_all_end(self):
        threads, started = InstanceThreads("edged-m"), queue.SimpleQueue()
        go_on = threading.Event()

        def job() -> None:
            started.put(threading.current_thread())
            go_on.wait(10)

        threads.submit(job, 1)
        threads.submit(job, 2)
        ran = [started.get(timeout=10) for _ in range(2)]
        assert sorted(thread.name for thread in ran) == ["edged-m", "edged-m-2"]
        threads.submit(lambda: started.put("ahead"), 2)  # waits for whoever is free first
        assert started.empty()
        go_on.set()
        assert started.get(timeout=10) == "ahead"
        threads.close(lambda: started.put("last"))
        assert started.get(timeout=10) == "last"
        for thread in ran:
            thread.join(10)
            assert not thread.is_alive()

    def test_those_of_a_class_that_goes_first_are_favoured_while_it_does(self, monkeypatch):
        told: dict[int, list[bool]] = {}
        name = "edged.serving.instance_threads.favour"
        monkeypatch.setattr(
            name, lambda thread, *, is_urgent: told.setdefault(thread, []).append(is_urgent)
        )
        threads, ran = InstanceThreads("edged-m"), queue.SimpleQueue()
        go_on = threading.Event()

        def job() -> None:
            go_on.wait(10)
            ran.put(threading.get_native_id())

        threads.submit(job, 1)
        assert told == {}, "of the usual class"
        for is_urgent in (True, True, False, True):
            threads.favour(is_urgent=is_urgent)
        threads.submit(job, 2)
        go_on.set()
        first, second = sorted((ran.get(timeout=10) for _ in range(2)), key=lambda t: -len(told[t]))
        assert told == {first: [True, False, True], second: [True]}
        threads.close(None)
        threads.favour(is_urgent=False)
        assert len(told[first]) == 3, "its number may be another's by now"

    def test_the_one_that_ran_last_runs_next(self):
        threads, ran = InstanceThreads("edged-m"), queue.SimpleQueue()
        first, second = threading.Event(), threading.Event()

        def job(end: threading.Event) -> None:
            end.wait(10)
            ran.put(threading.current_thread())

        threads.submit(lambda: job(first), 2)
        threads.submit(lambda: job(second), 2)
        first.set()
        one = ran.get(timeout=10)
        wait_until(lambda: len(threads._idle) == 1)
        second.set()
        other = ran.get(timeout=10)
        assert one is not other
        for _ in range(20):
            wait_until(lambda: len(threads._idle) == 2)
            threads.submit(lambda: job(first), 2)
            assert ran.get(timeout=10) is other
        threads.close(None)

    def test_survives_a_job_that_raises(self, caplog: pytest.LogCaptureFixture):
        threads = InstanceThreads("edged-raise")
        done = threading.Event()
        threads.submit(lambda: 1 / 0, 1)
        threads.submit(done.set, 1)
        assert done.wait(10)
        assert "edged-raise" in caplog.text
        threads.close(None)

    def test_none_is_started_before_the_first_job(self):
        threads = InstanceThreads("edged-idle")
        assert not [one for one in threading.enumerate() if one.name.startswith("edged-idle")]
        threads.submit(lambda: None, 1)  # the control
        assert [one for one in threading.enumerate() if one.name.startswith("edged-idle")]
        threads.close(None)

    def test_the_last_job_waits_for_a_run_of_another_thread(self):
        threads, order = InstanceThreads("edged-m"), queue.SimpleQueue()
        go_on, idle = threading.Event(), threading.Event()
        threads.submit(lambda: go_on.wait(10) and order.put("run"), 2)
        threads.submit(idle.set, 2)
        assert idle.wait(10)
        wait_until(lambda: len(threads._idle) == 1)
        threads.close(lambda: order.put("last"))
        wait_until(lambda: threads._left == 1)
        go_on.set()
        assert [order.get(timeout=10) for _ in range(2)] == ["run", "last"]

    def test_closed_twice(self):
        threads, done = InstanceThreads("edged-m"), threading.Event()
        threads.close(done.set)
        threads.close(None)
        assert done.wait(10)

    def test_the_last_job_is_done_though_nothing_ever_ran(self):
        threads, done = InstanceThreads("edged-m"), threading.Event()
        threads.close(done.set)
        assert done.wait(10)
