"""Sessions that live in a child: what it says, what it fails to say, and how it goes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import psutil
import pytest

from edged.errors import EdgedError, LoadError, RunError, WorkerDiedError
from edged.messages import InferResponse
from edged.protocol import native, prepared_runs
from edged.protocol.frames import Kind
from edged.protocol.layout import BodyLayout
from edged.runtimes.base import StillRunningError
from edged.workers import session as worker_session
from edged.workers.process import Death, reap
from edged.workers.session import WorkerCaps, WorkerSession
from tests.e2e.harmful import crasher, hoarder, looper
from tests.fakes.clock import on_loop, turns, until
from tests.fakes.descriptors import descriptors
from tests.fakes.model import doubler
from tests.fakes.wire import header, joined
from tests.fakes.worker import (
    FakeProcess,
    ThreadProcess,
    Told,
    Workers,
    artefact_of,
    wait_until,
)
from tests.models import double, with_external_data

X = np.arange(8, dtype=np.float32).reshape(2, 4)
MEGA = 1 << 20
GOLDEN_ROW = {"n": np.array([7])}


@pytest.fixture
def puppets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    """Sessions whose other end this test plays."""
    made = Workers(monkeypatch, FakeProcess)
    yield made
    made.close()


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    """Sessions whose other end is a Worker on a thread."""
    made = Workers(monkeypatch, ThreadProcess)
    yield made
    made.close()


def result(number: int, **outputs: np.ndarray) -> bytes:
    return joined(native.encode_response(number, InferResponse("", 0, 0, outputs)))


def attached(session: WorkerSession) -> Told:
    told = Told()
    session.attach(asyncio.get_running_loop(), told.deaths.append)
    return told


class TestBackToBack:
    """Both ends, and nothing in between but the socket."""

    def test_blocking(self, workers: Workers):
        session = workers.session()
        assert session.version == "1.0"
        assert workers.last.settled == 1
        for rows in (2, 2, 5, 0, 300_000):
            x = np.full((rows, 4), rows, np.float32)
            np.testing.assert_array_equal(session.run({"x": x})["y"], x * 2)
        session.close()

    @pytest.mark.parametrize(
        "dtype", ["int8", "uint16", "float16", "float64", "int64", ">f4", "bool"]
    )
    def test_what_is_sent_is_what_arrives(self, workers: Workers, dtype: str):
        """Twice: frames like those before take a shorter way."""
        workers.runtime.function = dict
        session = workers.session()
        x = np.arange(6).reshape(3, 2).astype(dtype)
        for array in (x, x, x[::-1], x.T, x.T):
            got = session.run({"a": array, "b": np.asarray(array[:1])})
            np.testing.assert_array_equal(got["a"], array)
            np.testing.assert_array_equal(got["b"], array[:1])
        session.close()

    @pytest.mark.parametrize("spin_ns", [0, 100_000, 5_000_000_000])
    @on_loop
    async def test_through_the_loop(
        self, workers: Workers, spin_ns: int, monkeypatch: pytest.MonkeyPatch
    ):
        """Whether or not the answer is waited for on the spot, it is told later and once."""
        monkeypatch.setattr(worker_session, "_SPIN_NS", spin_ns)
        session = workers.session()
        told = attached(session)
        for rows in (2, 300_000, 2, 1):
            told.answers.clear()
            x = np.full((rows, 4), rows, np.float32)
            session.begin({"x": x}, told.on_done)
            assert not told.answers
            await until(lambda: told.answers)
            assert told.error is None
            np.testing.assert_array_equal(told.answers[0][0]["y"], x * 2)
        session.close()
        await turns()
        assert told.deaths == []

    @on_loop
    async def test_a_run_that_fails_is_its_own_trouble(self, workers: Workers):
        def fails(_: Any) -> Any:
            raise ValueError

        workers.runtime.function = fails
        session = workers.session()
        with pytest.raises(RunError, match='model "gate" failed: ValueError'):
            session.run({"x": X})
        told = attached(session)
        session.begin({"x": X}, told.on_done)
        await until(lambda: told.answers)
        assert type(told.error) is RunError
        session.close()

    def test_a_load_that_is_refused(self, workers: Workers):
        workers.runtime.error = LoadError("no such operator")
        with pytest.raises(LoadError, match=r"^no such operator$"):
            workers.session()
        assert workers.last.ends == 1
        assert workers.last.settled == 0


NONSENSE = {
    "not a frame": b"HTTP/1.1 400 Bad Request\r\n\r\n12345678",
    "another version": header(version=9),
    "an absurd head": header(kind=4, number=2, head=1 << 30),
    "an absurd body": header(kind=4, number=2, body=1 << 50),
    "more than there is memory for": header(kind=4, number=2, body=1 << 40),
}


if Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "1":
    # There every size is promised; the run's timeout ends it.
    del NONSENSE["more than there is memory for"]


class TestNonsense:
    """Nothing that a worker says may hurt us, stay unanswered, or be blamed on the caller."""

    @pytest.mark.parametrize("name", NONSENSE)
    @on_loop
    async def test_bytes(self, puppets: Workers, name: str):
        session = puppets.session(run_timeout_s=600)
        told = attached(session)
        session.begin({"x": X}, told.on_done)
        puppets.last.say(NONSENSE[name])
        await until(lambda: told.answers)
        assert isinstance(told.error, WorkerDiedError)
        assert told.error.message.startswith(
            'the worker process of model "gate" broke the protocol and was ended ('
        )
        assert told.deaths == [told.error.message]
        assert puppets.last.ends == 1

    @pytest.mark.parametrize("name", NONSENSE)
    def test_bytes_while_it_loads(
        self, puppets: Workers, name: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(puppets.kind, "first_words", NONSENSE[name])
        with pytest.raises(WorkerDiedError, match="broke the protocol"):
            puppets.session()
        assert puppets.last.ends == 1

    @pytest.mark.parametrize(
        "document",
        [None, 7, {}, {"version": "1"}, {"version": "1", "inputs": 3, "outputs": []},
         {"version": "1", "inputs": [("x",)], "outputs": []}],
    )  # fmt: skip
    def test_a_reply_that_says_something_else(
        self, puppets: Workers, document: object, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(puppets.kind, "first_words", joined(native.encode_reply(1, document)))
        with pytest.raises(EdgedError):
            puppets.session()
        assert puppets.last.ends == 1

    @pytest.mark.parametrize(
        "words",
        [
            joined(native.encode_reply(2, {})),
            header(kind=Kind.RESULT, number=2, head=8) + b"\xc1" * 8,
            result(2, y=X)[:-8].replace(b"\x20\0\0\0\0\0\0\0", b"\x18\0\0\0\0\0\0\0", 1),
        ],
        ids=["another kind", "no msgpack", "a body that is too short"],
    )
    @on_loop
    async def test_a_frame_that_is_no_result(self, puppets: Workers, words: bytes):
        """It is not the caller's fault, and who speaks like that is not asked again."""
        session = puppets.session()
        told = attached(session)
        session.begin({"x": X}, told.on_done)
        puppets.last.say(words)
        await until(lambda: told.answers)
        assert isinstance(told.error, WorkerDiedError)
        assert puppets.last.ends == 1

    @on_loop
    async def test_answers_that_nobody_asked_for(self, puppets: Workers):
        session = puppets.session()
        told = attached(session)
        puppets.last.say(result(1, y=X) + result(99, y=X) + result(0, y=X))
        await turns(20)
        session.begin({"x": X}, told.on_done)
        number = puppets.last.frame().request_id
        puppets.last.say(result(number - 1, y=X) + result(number + 1, y=X))
        await turns(20)
        assert not told.answers
        puppets.last.say(result(number, y=X * 3) + result(number, y=X * 4))
        await until(lambda: told.answers)
        await turns(20)
        ((outputs, _),) = told.answers
        np.testing.assert_array_equal(outputs["y"], X * 3)
        session.close()

    @on_loop
    async def test_an_answer_twice_is_not_the_next_one_s(self, puppets: Workers):
        """Whoever is told may begin the next run at once; it gets its own answer or none."""
        session = puppets.session()
        first, second = attached(session), Told()

        def then_again(outputs: Any, error: Any) -> None:
            first.on_done(outputs, error)
            session.begin({"x": X}, second.on_done)

        session.begin({"x": X}, then_again)
        puppets.last.say(result(2, y=X) * 2)
        await until(lambda: first.answers)
        await turns(20)
        assert not second.answers
        puppets.last.say(result(3, y=X * 5))
        await until(lambda: second.answers)
        np.testing.assert_array_equal(second.answers[0][0]["y"], X * 5)
        session.close()

    def test_what_another_kind_of_error_says_is_a_failed_run(self, puppets: Workers):
        session = puppets.session()
        puppets.last.say(native.encode_error(2, LoadError("odd")))
        with pytest.raises(RunError, match=r"^odd$") as caught:
            session.run({"x": X})
        assert type(caught.value) is RunError
        session.close()


class TestDeath:
    @on_loop
    async def test_under_way(self, puppets: Workers):
        """The death is told before the run is answered, so that nothing new is begun."""
        session = puppets.session()
        order: list[str] = []
        session.attach(asyncio.get_running_loop(), order.append)
        session.begin({"x": X}, lambda outputs, error: order.append(repr(error)))
        puppets.last.die("died of SIGSEGV", "SIGSEGV")
        await until(lambda: len(order) == 2)
        words = 'the worker process of model "gate" died of SIGSEGV'
        assert order == [words, repr(WorkerDiedError(words))]
        assert (session.crash, puppets.last.ends) == ("SIGSEGV", 1)

    @on_loop
    async def test_idle(self, puppets: Workers):
        session = puppets.session()
        told = attached(session)
        puppets.last.die("died of SIGKILL")
        await until(lambda: told.deaths)
        assert session.crash == ""
        session.begin({"x": X}, told.on_done)
        assert not told.answers, "it was answered before it had begun"
        await turns()
        assert isinstance(told.error, WorkerDiedError)
        assert "was ended" in told.error.message
        assert len(told.deaths) == 1

    @on_loop
    async def test_last_words_are_heard(self, puppets: Workers):
        """An answer that was written before the end is an answer."""
        session = puppets.session()
        told = attached(session)
        session.begin({"x": X}, told.on_done)
        puppets.last.say(result(2, y=X))
        puppets.last.die("died of SIGABRT", "SIGABRT")
        await until(lambda: told.deaths)
        assert told.error is None
        assert session.crash == "SIGABRT"

    @on_loop
    async def test_while_it_is_written_to(self, puppets: Workers):
        session = puppets.session()
        told = attached(session)
        session.begin({"x": np.zeros((4 * MEGA, 4), np.float32)}, told.on_done)
        puppets.last.peer.recv(1000)
        puppets.last.die("died of SIGBUS", "SIGBUS")
        await until(lambda: told.answers)
        assert isinstance(told.error, WorkerDiedError)
        assert told.error.crash == "SIGBUS"

    def test_in_a_blocking_run(self, puppets: Workers):
        session = puppets.session()
        puppets.last.die("ended with status 3")
        with pytest.raises(WorkerDiedError, match="ended with status 3") as caught:
            session.run({"x": X})
        assert caught.value.crash == ""
        with pytest.raises(WorkerDiedError, match="was ended"):
            session.run({"x": X})

    @on_loop
    async def test_close_answers_what_runs(self, puppets: Workers):
        """Whoever waits for a run is not left waiting for ever."""
        session = puppets.session()
        told = attached(session)
        session.begin({"x": X}, told.on_done)
        session.close()
        session.close()
        await turns()
        assert isinstance(told.error, WorkerDiedError)
        assert told.deaths == []
        assert puppets.last.ends == 1


class TestSpin:
    """A short wait for the answer, on the spot; what it finds is no other than through the loop."""

    @pytest.fixture(autouse=True)
    def _on_many_cores(self, puppets: Workers, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(worker_session, "_SPIN_NS", 5_000_000)
        monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})

    @on_loop
    async def test_an_answer_that_is_there(self, puppets: Workers):
        session = puppets.session()
        told = attached(session)
        for number in (2, 3):
            puppets.last.say(result(number, y=X * number))
            session.begin({"x": X}, told.on_done)
            assert len(told.answers) == number - 2, "it was told from within begin"
            await turns()
            np.testing.assert_array_equal(told.answers[-1][0]["y"], X * number)
        session.close()

    @on_loop
    async def test_half_an_answer(self, puppets: Workers):
        session = puppets.session()
        told = attached(session)
        words = result(2, y=X)
        puppets.last.say(words[:50])
        session.begin({"x": X}, told.on_done)
        await turns()
        assert not told.answers
        puppets.last.say(words[50:])
        await until(lambda: told.answers)
        np.testing.assert_array_equal(told.answers[0][0]["y"], X)
        session.close()

    @on_loop
    async def test_an_end_is_told_as_any_other(self, puppets: Workers):
        session = puppets.session()
        told = attached(session)
        puppets.last.die("died of SIGSEGV", "SIGSEGV")
        session.begin({"x": X}, told.on_done)
        assert not told.answers, "it was told from within begin"
        await until(lambda: told.answers)
        assert (session.crash, len(told.deaths)) == ("SIGSEGV", 1)

    @on_loop
    async def test_nonsense_too(self, puppets: Workers):
        session = puppets.session()
        told = attached(session)
        puppets.last.say(NONSENSE["not a frame"])
        session.begin({"x": X}, told.on_done)
        assert not told.answers, "it was told from within begin"
        await until(lambda: told.answers)
        assert "broke the protocol" in told.error.message
        assert len(told.deaths) == 1

    @on_loop
    async def test_waits_in_vain_are_given_up_for_a_while(
        self, puppets: Workers, monkeypatch: pytest.MonkeyPatch
    ):
        session = puppets.session()
        told = attached(session)
        spun = 0

        def spin() -> None:
            nonlocal spun
            spun += 1
            session._patience.ended(in_time=False)

        monkeypatch.setattr(session, "_spin", spin)
        for number in range(2, 100):
            told.answers.clear()
            session.begin({"x": X}, told.on_done)
            puppets.last.say(result(number, y=X))
            await until(lambda: told.answers)
        assert spun == 8, "98 runs: four, none for 64, and four again"
        session.close()

    def test_not_on_one_core(self, puppets: Workers, monkeypatch: pytest.MonkeyPatch):
        """There the worker could not answer meanwhile."""
        monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
        session = puppets.session()
        assert session._patience.wait_ns == 0
        session.close()


class TestAwake:
    """A bound run: answered while it is waited for, or left under way to be taken over."""

    @pytest.fixture(autouse=True)
    def _on_many_cores(self, puppets: Workers, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(worker_session, "_SPIN_NS", 5_000_000)
        monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})

    def bound(self, session: WorkerSession) -> tuple[Any, np.ndarray]:
        y = np.zeros_like(X)
        return session.bind({"x": X}, {"y": y}), y

    @staticmethod
    def answer(number: int, y: np.ndarray) -> bytes:
        layout = BodyLayout(doubler().output_specs())
        response = InferResponse("", 0, 0, {"y": y}, None, 0, 1, len(y))
        return joined(prepared_runs.encode_answer(number, response, layout, len(y)))

    @on_loop
    async def test_answered_meanwhile(self, puppets: Workers):
        session = puppets.session()
        told = attached(session)
        run, y = self.bound(session)
        for number in (2, 3):
            puppets.last.say(self.answer(number, X * number))
            run.run()
            np.testing.assert_array_equal(y, X * number)
            assert prepared_runs.decode_run_head(puppets.last.frame()).rows == 2
        assert not told.answers
        session.close()

    @pytest.mark.parametrize("rows", [1, 3])
    @on_loop
    async def test_other_rows_than_were_asked(self, puppets: Workers, rows: int):
        """One row is not that of all; what was answered is told by the usual way."""
        session = puppets.session()
        told = attached(session)
        run, y = self.bound(session)
        puppets.last.say(self.answer(2, np.ones((rows, 4), np.float32)))
        with pytest.raises(RunError, match="other rows"):
            run.run()
        assert not y.any()
        puppets.last.say(self.answer(3, X))
        run.run()
        np.testing.assert_array_equal(y, X)
        assert not told.answers
        session.close()

    @on_loop
    async def test_taken_over(self, puppets: Workers):
        session = puppets.session()
        told = attached(session)
        run, _ = self.bound(session)
        with pytest.raises(StillRunningError):
            run.run()
        session.await_run(told.on_done)
        with pytest.raises(RunError, match="not to be waited for"):
            run.run()
        await turns()
        assert not told.answers
        puppets.last.say(self.answer(2, X * 5))
        await until(lambda: told.answers)
        np.testing.assert_array_equal(told.answers[0][0]["y"], X * 5)
        session.close()

    @pytest.mark.parametrize(
        ("words", "kind"),
        [
            (joined(native.encode_error(2, RunError("it broke"))), RunError),
            (NONSENSE["not a frame"], WorkerDiedError),
            (joined(native.encode_reply(2, {})), WorkerDiedError),
        ],
    )
    @on_loop
    async def test_what_went_wrong_is_told_to_who_takes_it_over(
        self, puppets: Workers, words: bytes, kind: type
    ):
        session = puppets.session()
        told = attached(session)
        run, _ = self.bound(session)
        puppets.last.say(words)
        with pytest.raises(StillRunningError):
            run.run()
        session.await_run(told.on_done)
        await until(lambda: told.answers)
        assert type(told.error) is kind
        session.close()

    @on_loop
    async def test_death(self, puppets: Workers):
        session = puppets.session()
        told = attached(session)
        run, _ = self.bound(session)
        puppets.last.die("died of SIGSEGV", "SIGSEGV")
        with pytest.raises(StillRunningError):
            run.run()
        session.await_run(told.on_done)
        await until(lambda: told.answers)
        assert (session.crash, len(told.deaths)) == ("SIGSEGV", 1)
        with pytest.raises(RunError):
            run.run()


class TestTime:
    """The clock of the process is looked at, not the wall's: bounds are far off or nought."""

    @on_loop
    async def test_a_run_that_does_not_end(self, puppets: Workers):
        session = puppets.session(run_timeout_s=0.05)
        told = attached(session)
        session.begin({"x": X}, told.on_done)
        await until(lambda: told.answers)
        assert "did not answer in time and was ended" in told.deaths[0]
        assert isinstance(told.error, WorkerDiedError)
        assert (session.crash, puppets.last.ends) == ("", 1)

    @on_loop
    async def test_one_timer_serves_many_runs(self, puppets: Workers):
        """It fires in the middle of a later run, which has its whole time all the same."""
        session = puppets.session(run_timeout_s=3600)
        told = attached(session)
        for number in (2, 3):
            session.begin({"x": X}, told.on_done)
            timer = session._timer
            if number == 2:
                first = timer
                puppets.last.say(result(number, y=X))
                await until(lambda: told.answers)
        assert timer is first
        session._look_at_clock()
        assert session._timer not in {None, first}
        assert len(told.answers) == 1
        puppets.last.say(result(3, y=X))
        await until(lambda: len(told.answers) == 2)
        session._look_at_clock()
        assert session._timer is None, "nothing runs: nothing to look at"
        session.close()

    def test_a_load_that_does_not_end(self, puppets: Workers, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(puppets.kind, "first_words", b"EDGD")
        with pytest.raises(WorkerDiedError, match="did not answer in time"):
            puppets.session(load_timeout_s=0.02)
        assert puppets.last.ends == 1

    def test_a_blocking_run_that_does_not_end(self, puppets: Workers):
        session = puppets.session(run_timeout_s=0.02)
        with pytest.raises(WorkerDiedError, match="did not answer in time"):
            session.run({"x": np.zeros((4 * MEGA, 4), np.float32)})


class TestReal:
    """The real thing: processes with ONNX Runtime in them."""

    def test_crash_is_told_by_its_signal(self):
        session = WorkerSession("onnxruntime", artefact_of(crasher()), WorkerCaps(threads=1))
        np.testing.assert_array_equal(
            session.run(GOLDEN_ROW)["y"], crasher().reference(GOLDEN_ROW)["y"]
        )
        with pytest.raises(WorkerDiedError, match="died of SIGFPE"):
            session.run({"n": np.array([-1])})
        assert session.crash == "SIGFPE"

    @on_loop
    async def test_loop_without_end_and_stopped(self):
        """It cannot be asked to stop, and it is gone all the same."""
        model = artefact_of(looper())
        caps = WorkerCaps(threads=1, run_timeout_s=0.5)
        session = WorkerSession("onnxruntime", model, caps)
        told = attached(session)
        session.begin({"n": np.array([1 << 60])}, told.on_done)
        await until(lambda: told.answers, 15)
        assert "did not answer in time" in told.error.message
        session = WorkerSession("onnxruntime", model, caps)
        told = attached(session)
        os.kill(session.pid, signal.SIGSTOP)
        session.begin({"n": np.array([3])}, told.on_done)
        await until(lambda: told.answers, 15)
        assert "did not answer in time" in told.error.message
        process = session._process
        await until(lambda: process.death() == Death("died of SIGKILL"), 15)

    def test_a_cap_on_memory_fails_the_run_and_not_the_process(self):
        caps = WorkerCaps(threads=1, memory_bytes=1 << 30)
        session = WorkerSession("onnxruntime", artefact_of(hoarder()), caps)
        for _ in range(2):
            with pytest.raises(RunError):
                session.run({"n": np.array([1 << 40])})
            with pytest.raises(RunError):
                session.run({"n": np.array([1 << 29])})  # 2 GiB each, twice
            np.testing.assert_array_equal(session.run({"n": np.array([2])})["y"], [4])
        session.close()

    @on_loop
    async def test_large_tensors_both_ways(self):
        """16 MiB there and back: many writes and reads, waited for in turns."""
        session = WorkerSession("onnxruntime", artefact_of(double()), WorkerCaps(threads=1))
        x = np.arange(4 * MEGA, dtype=np.float32).reshape(-1, 4)
        assert x.nbytes == 16 << 20, "four times what the socket holds"
        np.testing.assert_array_equal((await asyncio.to_thread(session.run, {"x": x}))["y"], x * 2)
        told = attached(session)
        for _ in range(2):
            told.answers.clear()
            session.begin({"x": x}, told.on_done)
            await until(lambda: told.answers, 15)
            assert told.error is None
            np.testing.assert_array_equal(told.answers[0][0]["y"], x * 2)
        session.close()

    def test_weights_in_a_second_file(self):
        model, files = with_external_data()
        artefact = artefact_of(model, **files)
        if not hasattr(ort.SessionOptions, "add_external_initializers_from_files_in_memory"):
            with pytest.raises(LoadError, match="in newer versions"):
                WorkerSession("onnxruntime", artefact, WorkerCaps(threads=1))
            return
        session = WorkerSession("onnxruntime", artefact, WorkerCaps(threads=1))
        model.check(session)
        assert [(s.name, s.dtype, s.shape[1:]) for s in session.inputs] == [("x", "float32", (4,))]
        session.close()

    def test_a_closed_session_leaves_no_zombie(self):
        """Also where no loop looks after it later, as after a trial."""
        session = WorkerSession("onnxruntime", artefact_of(double()), WorkerCaps(threads=1))
        pid = session.pid
        session.close()
        wait_until(lambda: not psutil.pid_exists(pid), 5)

    @pytest.mark.slow
    def test_twenty_sessions_leave_nothing(self):
        before = descriptors(), len(psutil.Process().children())
        for number in range(20):
            session = WorkerSession("onnxruntime", artefact_of(double()), WorkerCaps(threads=1))
            session.run({"x": X})
            if number % 2:
                os.kill(session.pid, signal.SIGKILL)
                with pytest.raises(WorkerDiedError):
                    session.run({"x": X})
            session.close()

        def now() -> tuple[int, int]:
            reap()
            return descriptors(), len(psutil.Process().children())

        wait_until(lambda: now() == before)


def test_a_killed_process_is_reaped_by_the_loop(puppets: Workers, monkeypatch: pytest.MonkeyPatch):
    reaped: list[float] = []
    monkeypatch.setattr(worker_session, "_REAP_LATER_S", 0.01)
    monkeypatch.setattr(worker_session, "reap", lambda: reaped.append(1))

    @on_loop
    async def run() -> None:
        session = puppets.session()
        attached(session)
        session.close()
        await until(lambda: reaped)

    run()
