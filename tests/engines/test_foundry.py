"""The whole life of an engine: a fake TensorRT in the real process, on the real event loop.

What only time or weather would bring about is brought about by hand; nothing waits for it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edged.engines.attempts import UNENDED, Attempt
from edged.engines.bench import EngineBench, Process, Task
from edged.engines.build import FoundryRules, Wanted
from edged.engines.built import Built
from edged.engines.cache import EngineCache
from edged.engines.entry import entry_name
from edged.engines.foundry import Foundry
from edged.engines.policy import ATTEMPTS
from edged.errors import BuildError, LoadError, NoDeviceError
from edged.runtimes.engine import Engine, Host
from tests.fakes import clock
from tests.runtimes.test_engine import HOST, engine

AUTO = FoundryRules(is_automatic=True, memory_bytes=0, timeout_ns=600 * 10**9)


async def until(condition: Callable[[], object]) -> None:
    """Threads of the lowest priority take their time on a busy machine."""
    await clock.until(condition, 60)


class FakeProcess:
    """A build in memory: ends when it is let, with what it is told to leave."""

    def __init__(self, task: Task, host: Host) -> None:
        self.step = "building"
        self.over = threading.Event()
        self.told: list[str] = []
        self.error: Exception | None = None
        golden = task.stored.golden(task.wish.entry)
        assert golden is not None
        inside = msgspec.structs.replace(
            engine().fingerprint,
            host=host,
            onnx_sha256=task.wish.source.onnx_sha256,
            options=task.wish.source.options,
        )
        self.built = Built(Engine(inside, engine().plan), dict(golden[1]), b"")

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")

    def kill(self) -> None:
        if not self.over.is_set():
            self.told.append("kill")
            self.error = BuildError("was ended by SIGKILL")
            self.over.set()

    def wait(self) -> None:
        assert self.over.wait(30)

    def result(self, _precision: str) -> Built:
        if self.error is not None:
            raise self.error
        return self.built

    def close(self) -> None:
        self.told.append("close")


class Works:
    """A foundry with everything around it in reach."""

    def __init__(self, directory: Path, task: Task, *, is_real: bool = False) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.task = task
        self.host: Host | Exception = HOST
        self.trouble = ""
        self.is_loading = False
        self.swapped: list[int] = []
        self.refuses = ""
        self.processes: list[FakeProcess] = []
        self.cache = EngineCache(directory, 64 << 20)
        start: Any = {} if is_real else {"start": self._start}
        self.bench = EngineBench(directory, self.cache, **start)
        self.foundry = Foundry(
            self.bench, self._host, lambda _: self.trouble, self._swap, lambda: self.is_loading
        )

    def _start(self, *_: object) -> Process:
        self.processes.append(FakeProcess(self.task, HOST))
        return self.processes[-1]

    def _host(self) -> Host:
        if isinstance(self.host, Exception):
            raise self.host
        return self.host

    async def _swap(self, wanted: Wanted) -> str:
        self.swapped.append(wanted.release)
        return self.refuses

    async def want(self, rules: FoundryRules = AUTO, *, count: int = 1) -> None:
        wanted = Wanted(self.task, 1, self.task.wish.source.bundle)
        await self.foundry.want([wanted] * count, rules)

    @property
    def phase(self) -> str:
        return ",".join(one["phase"] for one in self.foundry.as_list())

    @property
    def told(self) -> dict[str, Any]:
        [one] = self.foundry.as_list()
        return one

    async def is_at(self, phase: str) -> None:
        await until(lambda: self.phase == phase)

    async def running(self) -> FakeProcess:
        await self.is_at("building")
        await until(lambda: self.processes)
        await until(lambda: self.told["step"])
        return self.processes[-1]

    def look(self) -> None:
        """What a timer would do by and by."""
        self.foundry._asked.set()

    @property
    def name(self) -> str:
        return entry_name(self.task.wish.source, HOST)


def run(work: Callable[[], Coroutine[Any, Any, None]], *works: Works) -> None:
    async def whole() -> None:
        try:
            await asyncio.wait_for(work(), 120)
        finally:
            for one in works:
                one.foundry.stop()

    asyncio.run(whole())


@pytest.fixture
def works(tmp_path: Path, task: Task) -> Works:
    return Works(tmp_path / "state" / "engines", task)


@pytest.mark.slow
def test_match_build_check_cache_swap_in_the_real_process(gpu, tmp_path, task):
    gpu()
    directory = tmp_path / "state" / "engines"
    real = Works(directory, task, is_real=True)

    async def first() -> None:
        # The host that its own process tells, as the daemon asks it.
        with real.bench.held():
            process = real.bench.begin(task, 0)
            process.wait()
            real.host = process.result("float16").engine.fingerprint.host
            process.close()
        await real.want()
        await real.is_at("serving")
        assert real.swapped == [1]
        assert real.foundry.ended == {"ready": 1}
        assert real.told["reason"] == ""

    run(first, real)
    again = Works(directory, task, is_real=True)
    again.host = real.host

    async def second() -> None:
        await again.want()
        assert again.phase == "serving", "whoever loaded the release found it too"
        assert again.swapped == []

    run(second, again)
    upgraded = Works(directory, task, is_real=True)
    assert isinstance(real.host, Host)
    upgraded.host = msgspec.structs.replace(real.host, driver="999.1")

    async def third() -> None:
        await upgraded.want(FoundryRules(is_automatic=False, memory_bytes=0))
        assert upgraded.phase == "wanted"
        assert "driver 580.159 (here: 999.1)" in upgraded.told["reason"]

    run(third, upgraded)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("site", "words"),
    [
        ({"fault": "build"}, "cannot build it"),
        ({"fault": "float32"}, "built no layer of it"),
        ({"extra": "import os; os.abort()"}, "SIGABRT (TensorRT or the driver fell over)"),
    ],
)
def test_a_build_that_fails_in_the_real_process(gpu, tmp_path, task, site, words):
    gpu(**site)
    real = Works(tmp_path / "state" / "engines", task, is_real=True)

    async def work() -> None:
        await real.want()
        await real.is_at("failed")
        assert words in real.told["reason"]
        assert real.told["failures"] == 1
        assert 50 < real.told["retry_in_s"] <= 60
        assert real.swapped == []
        assert real.bench.attempts.get(real.name).failures == 1

    run(work, real)


def test_built_checked_kept_and_swapped(works):
    async def work() -> None:
        await works.want()
        process = await works.running()
        assert works.told["step"] == "building"
        assert works.bench.attempts.get(works.name) == Attempt(1, UNENDED)
        process.over.set()
        await works.is_at("serving")
        assert works.swapped == [1]
        assert works.cache.find(works.task.wish.source, HOST).data is not None
        assert works.bench.attempts.get(works.name) == Attempt()
        assert not works.bench.is_taken()

    run(work, works)


@pytest.mark.parametrize(("trouble", "is_loading"), [("gpu is 90 °C", False), ("", True)])
def test_it_waits_for_the_weather_and_says_so(works, trouble, is_loading):
    async def work() -> None:
        works.trouble, works.is_loading = trouble, is_loading
        await works.want()
        await until(lambda: works.told["waits_for"] in (trouble, "a model is being loaded"))
        assert works.phase == "wanted"
        works.trouble, works.is_loading = "", False
        works.look()
        await works.running()

    run(work, works)


def test_it_pauses_when_it_gets_hot_and_goes_on_when_it_is_cool(works):
    async def work() -> None:
        await works.want()
        process = await works.running()
        works.trouble = "gpu is 90 °C"
        works.look()
        await works.is_at("paused")
        assert works.told["waits_for"] == "gpu is 90 °C"
        works.trouble = ""
        works.look()
        await works.is_at("building")
        assert process.told == ["pause", "resume"]
        process.over.set()
        await works.is_at("serving")

    run(work, works)


def test_one_that_takes_too_long_is_killed(works):
    async def work() -> None:
        rules = FoundryRules(is_automatic=True, memory_bytes=0, timeout_ns=0)
        await works.want(rules)
        await works.is_at("failed")
        assert "engines.timeout" in works.told["reason"]
        assert "kill" in works.processes[0].told
        assert works.foundry.ended == {"failed": 1}

    run(work, works)


def test_wrong_answers_are_a_failure_and_nothing_is_kept(works):
    async def work() -> None:
        await works.want()
        process = await works.running()
        process.built.answers["y"] = process.built.answers["y"] + 1
        process.over.set()
        await works.is_at("failed")
        assert works.cache.entries() == []
        assert works.swapped == []

    run(work, works)


def fail_once(works: Works) -> Coroutine[Any, Any, None]:
    async def work() -> None:
        process = await works.running()
        process.error = BuildError("no memory")
        process.over.set()
        await until(lambda: works.phase in ("failed", "given up"))

    return work()


@pytest.mark.hostile("R29 an engine belongs to one version and GPU")
def test_after_some_tries_it_is_given_up_across_restarts(works, tmp_path):
    async def work() -> None:
        await works.want()
        for number in range(1, ATTEMPTS + 1):
            await fail_once(works)
            assert works.told["failures"] == number
            for build in works.foundry._builds.values():
                build.retry_at_ns = min(build.retry_at_ns, time.monotonic_ns())
                if number == ATTEMPTS:
                    assert works.phase == "given up"
            works.look()
        assert len(works.processes) == ATTEMPTS
        later = Works(works.bench._directory, works.task)
        await later.want()
        assert later.told["phase"] == "given up"
        assert later.told["reason"] == "no memory"
        later.foundry.stop()
        # another driver is another engine
        upgraded = Works(works.bench._directory, works.task)
        upgraded.host = msgspec.structs.replace(HOST, driver="541")
        await upgraded.want()
        await upgraded.running()
        upgraded.foundry.stop()

    run(work, works)


def test_an_engine_that_does_not_serve_is_a_failure_and_is_not_built_again(works):
    async def work() -> None:
        works.refuses = "it runs on onnxruntime"
        await works.want()
        (await works.running()).over.set()
        await works.is_at("failed")
        assert works.told["reason"] == "it runs on onnxruntime"
        works.refuses = ""
        await works.want()  # found in the cache
        await works.is_at("serving")
        assert len(works.processes) == 1

    run(work, works)


def test_a_bundle_that_goes_ends_its_build(works):
    async def work() -> None:
        await works.want()
        process = await works.running()
        await works.foundry.want([], AUTO)
        await until(lambda: works.foundry.as_list() == [])
        assert "kill" in process.told
        assert works.foundry.ended == {}
        assert works.bench.attempts.get(works.name) == Attempt()

    run(work, works)


def test_with_manual_it_waits_for_the_operator_and_takes_what_was_built(works):
    async def work() -> None:
        manual = FoundryRules(is_automatic=False, memory_bytes=0)
        await works.want(manual)
        assert works.told["waits_for"] == "edged build m"
        built = FakeProcess(works.task, HOST).built
        works.cache.keep(works.task.wish.source, built.engine, "m")
        await works.want(manual)
        await works.is_at("serving")
        assert works.swapped == [1]
        assert works.processes == []

    run(work, works)


def test_while_somebody_else_builds_it_waits(works):
    async def work() -> None:
        with EngineBench(works.bench._directory, works.cache).held():
            await works.want()
            await until(lambda: works.told["waits_for"] == "another process builds an engine")
            assert works.processes == []
            # and what it built is taken, not built again
            built = FakeProcess(works.task, HOST).built
            works.cache.keep(works.task.wish.source, built.engine, "m")
        works.look()
        await works.is_at("serving")
        assert works.processes == []
        assert works.swapped == [1]

    run(work, works)


def test_without_a_device_nothing_is_built_and_the_reason_is_kept(works):
    async def work() -> None:
        works.host = LoadError("no NVIDIA driver")
        await works.want()
        assert works.foundry.as_list() == []
        assert works.foundry.no_host == "no NVIDIA driver"
        works.host = HOST
        await works.want()
        assert works.foundry.no_host == ""
        await works.running()

    run(work, works)


def test_a_device_that_goes_during_the_build_is_not_tried_for_ever(works):
    async def work() -> None:
        await works.want()
        process = await works.running()
        process.error = NoDeviceError("no GPU")
        process.over.set()
        await works.is_at("failed")
        assert works.told["reason"] == "no GPU"

    run(work, works)


def test_a_daemon_that_is_told_to_stop_has_not_failed(works):
    async def work() -> None:
        await works.want()
        process = await works.running()
        works.foundry.stop()
        await asyncio.sleep(0)
        assert "kill" in process.told
        assert works.bench.attempts.get(works.name) == Attempt()

    run(work)


def test_an_entry_that_was_replaced_is_built_anew(works):
    async def work() -> None:
        built = FakeProcess(works.task, HOST).built
        works.cache.keep(works.task.wish.source, built.engine, "m")
        path = works.bench._directory / works.name
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        await works.want()
        assert works.cache.refused == {"changed": 1}
        (await works.running()).over.set()
        await works.is_at("serving")
        assert works.cache.find(works.task.wish.source, HOST).data is not None

    run(work, works)
