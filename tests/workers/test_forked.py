"""Trials in copies of one process: each its own, and what they learn is what a new one would."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from edged.device.memory import taken
from edged.errors import LoadError, RunError, WorkerDiedError
from edged.serving.memory.footprint import grown
from edged.workers import forked as forked_worker
from edged.workers.forked import ForkedWorkers
from edged.workers.isolation import WorkerCaps, WorkerRuntime, WorkerSession
from tests.e2e.harmful import crasher, hoarder
from tests.e2e.test_isolation import needs_trap
from tests.fakes.descriptors import descriptors
from tests.fakes.worker import artefact_of, wait_until
from tests.models import TinyModel, double

CAPS = WorkerCaps(threads=1, memory_bytes=1 << 30)
X = {"x": np.ones((1, 4), np.float32)}


@pytest.fixture
def workers() -> Iterator[ForkedWorkers]:
    made = ForkedWorkers(0, linger_s=3600)
    yield made
    made.rest()
    assert originals() == []


def originals() -> list[psutil.Process]:
    """The processes of ours that are copied."""
    found = []
    for one in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            found += [one] if "edged.workers.forks" in one.cmdline() else []
    return found


def runtime(workers: ForkedWorkers) -> WorkerRuntime:
    enter = workers.enter_for("onnxruntime")
    assert enter is not None
    return WorkerRuntime("onnxruntime", CAPS, enter)


def load(workers: ForkedWorkers, model: TinyModel | None = None) -> WorkerSession:
    return runtime(workers).load(artefact_of(model or double()))


def test_each_has_a_process_of_its_own_and_they_share_one_import(workers: ForkedWorkers):
    first, second = load(workers), load(workers)
    (original,) = originals()
    assert len({first.pid, second.pid, original.pid}) == 3
    assert {one.pid for one in original.children()} == {first.pid, second.pid}
    for session in (first, second):
        assert session.run(X)["y"].tolist() == [[2, 2, 2, 2]]
        session.close()
    assert original.children() == []


@needs_trap
def test_a_crash_is_told_and_harms_no_other(workers: ForkedWorkers):
    neighbour, bad = load(workers), runtime(workers)
    session = bad.load(artefact_of(crasher(-1)))
    with pytest.raises(WorkerDiedError, match="died of SIGFPE"):
        session.run({"n": np.array([-1])})
    assert bad.crash == "SIGFPE"
    assert neighbour.run(X)["y"].tolist() == [[2, 2, 2, 2]]
    neighbour.close()
    load(workers).close()


def test_one_that_wants_too_much_leaves_the_next_its_memory(workers: ForkedWorkers):
    session = load(workers, hoarder(1 << 29))
    with pytest.raises(RunError):
        session.run({"n": np.array([1 << 29])})
    session.close()
    after = load(workers)
    soft, hard = psutil.Process(after.pid).rlimit(psutil.RLIMIT_DATA)
    assert soft == hard == CAPS.memory_bytes
    assert originals()[0].rlimit(psutil.RLIMIT_DATA)[1] == psutil.RLIM_INFINITY
    after.close()


def test_measures_what_a_process_that_was_started_for_it_does(workers: ForkedWorkers):
    held = []
    for session in (load(workers), WorkerRuntime("onnxruntime", CAPS).load(artefact_of(double()))):
        session.run(X)
        before, after = session.memory_before, taken(session.pid)
        assert before is not None
        assert after is not None
        held.append(grown(before, after).held)
        session.close()
    assert abs(held[0] - held[1]) < 1 << 20


def test_an_end_from_outside_blames_nobody_and_the_next_is_served(workers: ForkedWorkers):
    tried = runtime(workers)
    session = tried.load(artefact_of(double()))
    (original,) = originals()
    original.kill()
    wait_until(lambda: not _is_alive(session.pid))
    with pytest.raises(WorkerDiedError):
        session.run(X)
    assert tried.crash == ""
    load(workers).close()
    assert [one.pid for one in originals()] != [original.pid]


def test_goes_when_nobody_came_for_a_while_and_not_before_the_last_trial():
    workers = ForkedWorkers(0, linger_s=0.05)
    session = load(workers)
    pid = originals()[0].pid
    assert session.run(X)["y"].tolist() == [[2, 2, 2, 2]]
    assert psutil.pid_exists(pid)
    session.close()
    wait_until(lambda: originals() == [])
    load(workers).close()
    wait_until(lambda: originals() == [])


def test_leaves_no_descriptors(workers: ForkedWorkers):
    load(workers).close()
    before = descriptors()
    for _ in range(5):
        load(workers).close()
    assert descriptors() == before


def test_what_may_have_begun_something_is_started_anew(
    workers: ForkedWorkers, monkeypatch: pytest.MonkeyPatch
):
    assert workers.enter_for("onnxruntime-cuda") is None
    assert workers.enter_for("somebody's") is None
    monkeypatch.setattr(forked_worker._Forks, "ask", lambda *_: "it has 3 threads")
    assert workers.enter_for("onnxruntime") is None
    assert originals() == []
    monkeypatch.undo()
    assert workers.enter_for("onnxruntime") is None, "it will have threads the next time too"


def test_where_none_can_be_started_trials_do_without(monkeypatch: pytest.MonkeyPatch):
    def refuses(*_: object) -> None:
        raise LoadError("a worker process cannot be started: no memory")

    monkeypatch.setattr(forked_worker, "WorkerProcess", refuses)
    workers = ForkedWorkers(0)
    assert workers.enter_for("onnxruntime") is None
    workers.rest()


def test_all_end_with_the_daemon():
    code = """
        import sys
        from tests.workers.test_forked import ForkedWorkers, load, originals
        session = load(ForkedWorkers(0))
        print(session.pid, originals()[0].pid, flush=True)
        sys.stdin.read()
    """
    arguments = [sys.executable, "-c", textwrap.dedent(code)]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 2
        os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(_is_alive, pids)))


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
