"""Builds what releases want, one engine after the other, and has each exchanged for what serves.

Decides nothing about when (``policy.py``) nor what an engine is worth (``bench.py``): it asks, and
does. Lives on the event loop; whatever blocks runs on a thread of its own, at the lowest priority.
While nothing is wanted it sleeps without a timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from edged.engines.attempts import Attempt
from edged.engines.bench import BusyBenchError, EngineBench
from edged.engines.build import Build, FoundryRules, Wanted
from edged.engines.entry import entry_name
from edged.engines.policy import (
    ATTEMPTS,
    NEVER_NS,
    RUNNING,
    Again,
    Begin,
    End,
    Event,
    Pause,
    Phase,
    Resume,
    Step,
    View,
    Weather,
    advance,
    after_failure,
    next_look,
    next_step,
)
from edged.errors import EdgedError, NoDeviceError
from edged.runtimes.engine import Host
from edged.system.cores import spread

log = logging.getLogger("edged.engines")

_NICE = 19


class Foundry:
    """See above.

    Args:
        bench: where builds are made.
        host: what this device is; blocks, and raises LoadError where no engine can run.
        strain: why the device should be spared, given what it said the last time; blocks.
        swap: has a release loaded anew, beside the one that serves, and exchanges them; gives why
            it could not.
        is_loading: whether a release is being loaded.
    """

    def __init__(
        self,
        bench: EngineBench,
        host: Callable[[], Host],
        strain: Callable[[str], str],
        swap: Callable[[Wanted], Awaitable[str]],
        is_loading: Callable[[], bool],
    ) -> None:
        self.bench = bench
        self.rules = FoundryRules(is_automatic=False, memory_bytes=0)
        self._host_of = host
        self._strain = strain
        self._swap = swap
        self._is_loading = is_loading
        self._builds: dict[str, Build] = {}
        self._host: Host | None = None
        self._no_host = ""
        self._weather = Weather()
        self._asked = asyncio.Event()
        self._run_task: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(2, "edged-engines", initializer=_lower_priority)
        self.ended: Counter[str] = Counter()
        """Builds by how they ended: ``ready`` or ``failed``."""
        self.on_change: Callable[[], None] = _nothing

    async def want(self, wanted: Iterable[Wanted], rules: FoundryRules) -> None:
        """Say what should be there, as a whole; what is kept already is found at once."""
        self.rules = rules
        items = list(wanted)
        if not items:
            self._keep(())
            self._wake()
            return
        try:
            self._host = await self._off_loop(self._host_of)
            self._no_host = ""
        except EdgedError as exc:
            self._host, self._no_host = None, exc.message
            self._keep(())
            self._wake()
            return
        names = [entry_name(one.task.wish.source, self._host) for one in items]
        self._keep(names)
        for order, (name, one) in enumerate(zip(names, items, strict=True)):
            await self._adopt(name, one, order, self._host)
        self._weather = replace(self._weather, quiet_until_ns=time.monotonic_ns() + rules.quiet_ns)
        self._wake()
        self.on_change()

    def stop(self) -> None:
        """End what runs; nothing is built any more."""
        if self._run_task is not None:
            self._run_task.cancel()
        for name, build in self._builds.items():
            if build.task is not None:
                build.task.cancel()
            if build.process is not None:
                build.process.kill()
                # Whoever is told to stop has not failed.
                self.bench.attempts.note(name, Attempt(build.failures, build.why))
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def host(self) -> Host | None:
        """What this device was when it was last asked; None where no engine can run."""
        return self._host

    def as_list(self) -> list[dict[str, Any]]:
        """Every build, for people and programs."""
        now_ns = time.monotonic_ns()
        rules, weather = self.rules, self._weather
        return [build.told(rules, weather, now_ns) for build in self._builds.values()]

    def phases(self) -> Counter[str]:
        """How many builds are in each phase."""
        return Counter(build.phase.value for build in self._builds.values())

    @property
    def no_host(self) -> str:
        """Why no engine can run here; empty where one can, or nobody wants one."""
        return self._no_host

    def _keep(self, names: Collection[str]) -> None:
        """Forget all others but what runs, which is ended."""
        for name, build in list(self._builds.items()):
            build.is_wanted = name in names
            if not build.is_wanted and build.phase not in RUNNING:
                del self._builds[name]

    async def _adopt(self, name: str, one: Wanted, order: int, host: Host) -> None:
        build = self._builds.get(name)
        is_new = build is None
        if build is None:
            before = await self._off_loop(self.bench.attempts.get, name)
            build = Build(one, order, failures=before.failures, why=before.why)
            self._builds[name] = build
            if build.failures >= ATTEMPTS:
                build.phase = advance(build.phase, Event.GIVE_UP)
        build.wanted, build.order = one, order
        if build.phase not in (Phase.WANTED, Phase.FAILED, Phase.GIVEN_UP):
            return
        found = await self._off_loop(self.bench.cache.find, one.task.wish.source, host)
        if found.data is not None:
            self._move(build, Event.FOUND)
            if is_new:  # whoever loaded the release found it too
                self._move(build, Event.SWAPPED)
            else:
                self._exchange_soon(build)
        elif one.is_served:
            del self._builds[name]  # the bundle has an engine for this device
        elif not build.why:
            build.why = found.why

    def _wake(self) -> None:
        if self._run_task is None or self._run_task.done():
            self._run_task = asyncio.get_running_loop().create_task(self._run())
            self._run_task.add_done_callback(_log_failure)
        self._asked.set()

    async def _run(self) -> None:
        """Do what the policy says, whenever something changed or may have."""
        while True:
            self._asked.clear()
            if self._views():
                await self._look()
            while (step := self._decide()) is not None:
                await self._perform(step)
            at_ns = next_look(self._views(), self._weather, time.monotonic_ns())
            timeout = None if at_ns is None else max(0.0, (at_ns - time.monotonic_ns()) / 1e9)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._asked.wait(), timeout)

    def _decide(self) -> Step | None:
        now_ns = time.monotonic_ns()
        return next_step(self._views(), self._weather, self.rules.timeout_ns, now_ns)

    def _views(self) -> list[View]:
        """What the policy may know; without leave to build only what runs already."""
        now_ns = time.monotonic_ns()
        return [
            build.view(name, now_ns)
            for name, build in self._builds.items()
            if build.may_change(self.rules)
        ]

    async def _look(self) -> None:
        """See how the device is."""
        before = self._weather
        trouble = await self._off_loop(self._strain, before.trouble)
        is_idle = not any(build.phase in RUNNING for build in self._builds.values())
        is_taken = is_idle and await self._off_loop(self.bench.is_taken)
        is_loading = self._is_loading()
        quiet_ns = before.quiet_until_ns
        if is_loading:
            quiet_ns = time.monotonic_ns() + self.rules.quiet_ns
        self._weather = Weather(trouble, is_loading, quiet_ns, is_taken)

    async def _perform(self, step: Step) -> None:
        build = self._builds[step.key]
        now_ns = time.monotonic_ns()
        if isinstance(step, Begin):
            await self._begin(step.key, build)
        elif isinstance(step, Again):
            self._move(build, Event.RETRY)
        elif isinstance(step, Pause) and build.process is not None:
            build.worked_ns = build.worked(now_ns)
            build.process.pause()
            self._move(build, Event.PAUSE)
        elif isinstance(step, Resume) and build.process is not None:
            build.process.resume()
            build.resumed_at_ns = now_ns
            self._move(build, Event.RESUME)
        elif isinstance(step, End) and build.process is not None:
            build.end = step.why
            build.process.kill()
            if build.task is not None:
                await asyncio.wait({build.task})

    async def _begin(self, name: str, build: Build) -> None:
        """Start the process, and see to its end in a task of its own."""
        host, task = self._host, build.wanted.task
        if host is None:
            return
        found = await self._off_loop(self.bench.cache.find, task.wish.source, host)
        if found.data is not None:  # somebody else built it meanwhile
            self._move(build, Event.FOUND)
            self._exchange_soon(build)
            return
        self._move(build, Event.BEGIN)
        build.worked_ns, build.resumed_at_ns, build.end, build.why = 0, 0, None, ""
        held = self.bench.held()
        try:
            await self._off_loop(held.__enter__)
            await self._off_loop(self.bench.attempts.begin, name)
            memory = self.rules.memory_bytes
            build.process = await self._off_loop(self.bench.begin, task, memory)
        except (EdgedError, OSError) as exc:
            if not isinstance(exc, BusyBenchError):
                held.__exit__(None, None, None)
            await self._failed(name, build, exc)
            return
        build.resumed_at_ns = time.monotonic_ns()
        words = 'model "%s" release %d: building an engine in %s'
        log.info(words, task.model, build.wanted.release, task.wish.entry.precision)
        build.task = asyncio.get_running_loop().create_task(self._see_through(name, build, host))
        build.task.add_done_callback(lambda _task: held.__exit__(None, None, None))
        build.task.add_done_callback(_log_failure)

    async def _see_through(self, name: str, build: Build, host: Host) -> None:
        """From the running process to an engine in the cache, or to a failure."""
        process, task = build.process, build.wanted.task
        assert process is not None
        try:
            await self._off_loop(process.wait)
            build.seconds = round(build.worked(time.monotonic_ns()) / 1e9, 1)
            self._move(build, Event.BUILT)
            built = await self._off_loop(process.result, task.wish.entry.precision)
            await self._off_loop(self.bench.accept, task, built, host)
            await self._off_loop(self.bench.attempts.note, name, Attempt())
        except (EdgedError, OSError) as exc:
            await self._failed(name, build, exc)
            return
        finally:
            build.process = None
            process.kill()
            with contextlib.suppress(RuntimeError):  # the threads are gone when the house closes
                await self._off_loop(process.close)
        self.ended["ready"] += 1
        log.info('model "%s": the engine is ready after %.1f s', task.model, build.seconds)
        self._move(build, Event.ACCEPT)
        self._exchange_soon(build)

    async def _failed(self, name: str, build: Build, error: EdgedError | OSError) -> None:
        """Try again later, or not at all."""
        why = error.message if isinstance(error, EdgedError) else error.strerror or str(error)
        why = why if build.end is None else build.end
        is_no_fault = isinstance(error, BusyBenchError) or build.end == ""
        if not is_no_fault:
            self.ended["failed"] += 1
            build.failures += 1
            log.error('model "%s": no engine was built: %s', build.wanted.task.model, why)
        build.why = why
        now_ns = time.monotonic_ns()
        build.retry_at_ns = after_failure(build.failures, now_ns) if build.failures else now_ns
        is_over = build.retry_at_ns == NEVER_NS and not isinstance(error, NoDeviceError)
        await self._off_loop(self.bench.attempts.note, name, Attempt(build.failures, why))
        self._move(build, Event.GIVE_UP if is_over else Event.FAIL)
        if not build.is_wanted:
            self._builds.pop(name, None)
        self._asked.set()

    def _exchange_soon(self, build: Build) -> None:
        build.task = asyncio.get_running_loop().create_task(self._exchange(build))
        build.task.add_done_callback(_log_failure)

    async def _exchange(self, build: Build) -> None:
        """Have the release loaded anew; it finds the engine in the cache."""
        why = await self._swap(build.wanted)
        if not why:
            build.failures, build.why = 0, ""
            self._move(build, Event.SWAPPED)
        else:
            log.error('model "%s": its engine does not serve: %s', build.wanted.task.model, why)
            self.ended["failed"] += 1
            build.failures += 1
            build.why = why
            build.retry_at_ns = after_failure(build.failures, time.monotonic_ns())
            is_over = build.retry_at_ns == NEVER_NS
            self._move(build, Event.GIVE_UP if is_over else Event.FAIL)
        self._asked.set()

    def _move(self, build: Build, event: Event) -> None:
        build.phase = advance(build.phase, event)
        self.on_change()

    async def _off_loop(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)


def _lower_priority() -> None:
    spread()
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _nothing() -> None:
    pass


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("a build was lost", exc_info=task.exception())
