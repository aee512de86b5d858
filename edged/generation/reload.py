"""Generations: a configuration is loaded, checked, built beside the old one, and swapped in whole.

Decides whether a changed configuration takes effect. Any failure leaves the running generation as
it was, and says why with file and line. At boot there is nothing to fall back on but the disk: a
broken release is answered with the last good one (a broken file: ``record.load_for_boot``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from edged.checks.budget import budgets_of
from edged.config.binding import BindingConfig
from edged.config.load import Snapshot
from edged.config.problems import ConfigProblemsError
from edged.errors import ApplyError, EdgedError
from edged.faults import fault
from edged.generation.access_back import tell_access
from edged.generation.candidate import Candidate, build_candidate
from edged.generation.content import content_digest
from edged.generation.due import is_due
from edged.generation.fallback import lost_models
from edged.generation.fitting import fit_all, fit_possible
from edged.generation.house import House
from edged.generation.pace import let_in
from edged.generation.record import do_all
from edged.generation.reload_tally import Report
from edged.generation.rereading import reread
from edged.generation.returns import Returns
from edged.generation.reviews import Reviews
from edged.generation.table import build_table, failed_problems, restart_changes
from edged.generation.trusted import tell_trust, trust_document
from edged.generation.turns import build_in_turns, follow_in_turns
from edged.manifest import Manifest
from edged.serving.lifecycle import ReleaseKey
from edged.serving.manager import Desired
from edged.system.breath import long_work
from edged.system.garbage import Growth

log = logging.getLogger("edged.reload")

_NUMBER = "generation.number"


class Reloader(Returns):
    """Applies configurations, one at a time.

    Args:
        house: what it works on.
        snapshot: the configuration to boot with.
    """

    def __init__(self, house: House, snapshot: Snapshot) -> None:
        super().__init__(house, snapshot)
        self._boot_config = snapshot.config
        self._reviews = Reviews(house.dataplane, house.health)
        self._pending: tuple[BindingConfig, ...] = ()
        self._lost: frozenset[str] = frozenset()
        self._is_stopped = False
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._growth = Growth()
        self.report = Report(applied=False, at=0.0)
        self.begun = 0
        self.is_writing: Callable[[], bool] = bool
        self.changes: Callable[[], int] = int

    @property
    def ready(self) -> int:
        """How many models answer."""
        return self._reviews.ready

    def trust_document(self) -> dict[str, Any]:
        """Whose bundles are accepted; for the status."""
        made = self._candidate
        return trust_document(made.snapshot, made.trusted, made.retired)

    def request(self) -> None:
        """Ask for a reload; requests that come while one runs are answered by one more."""
        if self._is_stopped:
            return
        if self._task is not None and not self._task.done():
            self._again = True
            return
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """Give up a reload that runs; what serves stays as it is."""
        self._again = False
        self._is_stopped = True
        self._end_window()
        if self._task is not None:
            self._task.cancel()

    async def boot(self, crash: str = "") -> None:
        """Serve what can be served of the first configuration; what cannot is a degradation.

        Args:
            crash: how the last run died by its own doing; empty when it did not.
        """
        house = self._house
        snapshot = self._candidate.snapshot
        await self._begin_boot(snapshot, crash)
        candidate = await asyncio.to_thread(build_candidate, snapshot, house.repository)
        for problem in candidate.problems:
            log.error("%s", problem)
        desired = candidate.desired()
        house.manager.schedule(snapshot.config)
        house.manager.want(desired)
        await house.manager.settled([item.key for item in desired])
        await self._fallbacks.find(candidate)
        generation = await self._first_generation()
        table = build_table(candidate, house.manager, generation, self._fallbacks.serving)
        house.dataplane.swap(table)
        self._candidate = candidate
        prepared = self._prepare_possible()
        await house.links.swap(snapshot, prepared)
        self._report_own()
        self.review()
        await self._remember(is_good=not candidate.problems)
        self._prove()

    async def reload(self) -> bool:
        """Read the files and apply them as a whole, or not at all.

        Returns:
            Whether the files are what is in effect now.
        """
        house = self._house
        problems: tuple[str, ...]
        try:
            await self._go_where_ordered()
            documents = house.record.documents
            await asyncio.to_thread(documents.settle_removal)
            places = (house.config_path, documents.directory)
            snapshot = await reread(*places, self.changes, self.is_writing)
            if snapshot is None:
                return False
            digest = await asyncio.to_thread(long_work, content_digest, snapshot)
            if digest != self.digest or await self._is_due(snapshot):
                await self._refuse_set_aside(digest)
                await self._apply(snapshot, digest)
            else:
                await house.links.refresh(snapshot)
                await house.listener.refresh(snapshot.config)
            await let_in()
            house.manager.reconsider(house.is_quarantined)
            await let_in()
            await self._stand_in()
            await let_in()
        except ConfigProblemsError as exc:
            problems = _lines(exc.problems)
        except EdgedError as exc:
            problems = (exc.message,)
        except Exception as exc:
            log.exception("a reload failed in an unexpected way")
            problems = (f"{type(exc).__name__}: {exc}; see the log",)
        else:
            self.accepted()
            return True
        self.rejected(problems)
        return False

    async def _is_due(self, snapshot: Snapshot) -> bool:
        return await asyncio.to_thread(is_due, self._candidate, snapshot, self._house.repository)

    def accepted(self) -> None:
        """Note that the files are what is in effect."""
        self._report_own()
        self._house.health.restore("config")

    def review(self) -> None:
        """Bring the list of degradations up to date with the releases' states."""
        self._follow_up(self._reviews.whole(self._candidate.broken))

    def _follow_up(self, lost: frozenset[str]) -> None:
        routes = self._house.dataplane.table.routes
        if lost - self._lost:
            self.request()
        self._lost = lost
        waiting = {binding.model.partition("@")[0] for binding in self._pending}
        if any(name in routes and routes[name].is_ready for name in waiting):
            self._retry_bindings()

    async def _run(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            self.begun += 1
            self._growth.begin()
            try:
                self.on_begin()
                async with self._lock:
                    await self.reload()
                await let_in()
                self.on_end()
            finally:
                self._growth.end()

    async def _apply(self, snapshot: Snapshot, digest: str) -> None:
        await self._change(snapshot, digest)
        await self._let_go()  # now that nobody has parts of it

    async def _change(self, snapshot: Snapshot, digest: str) -> None:
        house = self._house
        asked = await self._asked(snapshot)
        candidate = self._carried(asked.candidate)
        await let_in()
        await self._begin(digest)
        fallbacks = await self._fallbacks.kept(candidate)
        desired = candidate.desired()
        await let_in()
        before = house.manager.wanted()
        new = {item.key for item in desired}.difference(item.key for item in before)
        await let_in()
        house.manager.loader.trial = snapshot.config.trial
        house.manager.memories.set_budgets(asked.budgets)
        house.manager.aim(desired, leaving=before)
        try:
            await let_in()
            house.manager.step()
            await let_in()
            fault("reload.begun")
            prepared, waiting = await self._build(candidate, new, fallbacks)
            fault("reload.built")
            # Before the listener, which may move: a number that is left out harms nobody.
            generation = await self._next_generation(digest)
            fault("reload.numbered")
            await self._listen(snapshot)
            fault("reload.listening")
        except BaseException:
            house.manager.want(before)
            house.manager.memories.set_budgets(budgets_of(self.config))
            if not self._is_stopped:
                await self._give_up()
            raise
        # From here on nothing is refused any more: what serves is exchanged between two turns, and
        # the rest follows it, in several, so that those who ask never wait for all of it.
        await let_in()
        is_given_anew = house.manager.schedule(snapshot.config)
        await let_in()
        await follow_in_turns(house.manager, desired, is_given_anew=is_given_anew)
        table = await build_in_turns(candidate, house.manager, generation, fallbacks)
        await self._looks.ahead(table)
        house.dataplane.swap(table)
        gone = [binding.name for binding in self.config.bindings]
        self._take(candidate, asked.paths)
        self.digest = digest
        self._prove()  # at once: what breaks with the first request is well now
        await let_in()
        self._note_bindings(waiting, gone)
        self._fallbacks.keep(fallbacks, house.dataplane.table.routes)
        await house.links.swap(snapshot, prepared)
        await let_in()
        house.manager.aim([*desired, *self._fallbacks.serving.values()])
        await let_in()
        house.manager.step()
        await let_in()
        told = "generation %d is in effect (changed fields: %d, loaded: %d)"
        log.info(told, generation, asked.changes, len(new))
        self._follow_up(await self._reviews.in_turns(candidate.broken))
        await let_in()
        await self._remember(is_good=True)

    async def _listen(self, snapshot: Snapshot) -> None:
        try:
            await self._house.listener.apply(snapshot.config)
        except ApplyError as exc:
            path, _, text = exc.message.partition(": ")
            if not path.startswith("listen."):
                raise
            raise ConfigProblemsError([snapshot.problem(path, text)]) from exc

    async def _build(
        self, candidate: Candidate, new: set[ReleaseKey], fallbacks: dict[str, Desired]
    ) -> tuple[Any, dict[str, str]]:
        """Load what is new and fit the bindings to it; raises when any of it cannot be."""
        house = self._house
        await house.manager.settled([item.key for item in candidate.desired()])
        await let_in()
        problems = failed_problems(candidate, house.manager, new)
        if problems:
            raise ConfigProblemsError(problems)
        await let_in()
        number, table = house.dataplane.table.generation, None

        def manifest_of(model: str, selector: int | str | None) -> Manifest | None:
            nonlocal table  # only bindings ask
            table = table or build_table(candidate, house.manager, number, fallbacks)
            return table.manifest(model, selector)

        return fit_all(house.links.prepare, candidate.snapshot, self._pending, manifest_of)

    async def _next_generation(self, digest: str) -> int:
        try:
            number = await asyncio.to_thread(long_work, self._house.record.next_generation, digest)
        except OSError as exc:
            raise ApplyError(f"the state directory cannot be written: {exc.strerror}") from exc
        self._house.health.restore(_NUMBER)
        return number

    async def _first_generation(self) -> int:
        number, why = await asyncio.to_thread(self._house.record.first_generation, self.digest)
        if why:
            said = f"that generation {number} is in effect could not be noted on disk: {why}"
            self._house.health.degrade(_NUMBER, f"{said}; the next change or start notes it")
        return number

    def _prepare_possible(self) -> Any:
        """At boot: the bindings that work, and a degradation for each that does not yet."""
        house = self._house
        of = house.dataplane.table.manifest
        prepared, waiting = fit_possible(house.links.prepare, self._candidate.snapshot, of)
        self._note_bindings(waiting, ())
        return prepared

    def _note_bindings(self, waiting: dict[str, str], gone: Iterable[str]) -> None:
        bindings = self.config.bindings
        self._pending = tuple(binding for binding in bindings if binding.name in waiting)
        for name in {*gone, *(binding.name for binding in bindings)} - waiting.keys():
            self._house.health.restore(f"binding.{name}")
        for name, reason in waiting.items():
            self._house.health.degrade(f"binding.{name}", reason)

    def _retry_bindings(self) -> None:
        prepared = self._prepare_possible()
        task = asyncio.get_running_loop().create_task(self._swap(self._candidate, prepared))
        task.add_done_callback(_log_failure)

    async def _swap(self, candidate: Candidate, prepared: Any) -> None:
        # A reload that came between has swapped in its own already.
        if candidate is self._candidate:
            await self._house.links.swap(candidate.snapshot, prepared)

    async def _stand_in(self) -> None:
        """For a model whose release was quarantined while it served: the one that served before."""
        house, candidate = self._house, self._candidate
        if not self._lost or not lost_models(house.dataplane.table.routes):
            return  # each release that goes has them looked at (``review``)
        await self._fallbacks.find(candidate)
        number = house.dataplane.table.generation
        table = build_table(candidate, house.manager, number, self._fallbacks.serving)
        house.dataplane.swap(table)
        self.review()

    async def _remember(self, *, is_good: bool) -> None:
        """Note on disk what serves: the releases that do, and the configuration if it is whole."""
        made = self._candidate
        house, snapshot, record = self._house, made.snapshot, self._house.record
        tell_trust(snapshot, made.trusted, made.retired, house.health)
        await tell_access(snapshot, house.config_path, house.health)
        notes: list[Callable[[], object]] = [partial(record.activate, house.dataplane.table)]
        if is_good:
            entry = self._entry(self._candidate)
            notes.append(partial(record.keep, snapshot))
            notes.append(partial(record.history.add, snapshot, entry))
        try:
            await asyncio.to_thread(long_work, do_all, notes)
            house.health.restore("last-good")
        except (EdgedError, OSError) as exc:
            house.health.degrade("last-good", f"what serves could not be noted on disk: {exc}")
        await self._raise_floors()
        await self._collect()
        changed = restart_changes(self._boot_config, self.config)
        if changed:
            house.health.degrade("restart", f"takes effect after a restart: {', '.join(changed)}")
        else:
            house.health.restore("restart")

    def _report_own(self) -> None:
        """The files are what is in effect; after a boot they may have problems all the same."""
        problems = self._candidate.problems
        self.report = Report(not problems, time.time(), _lines(problems), self.begun)

    def rejected(self, problems: tuple[str, ...]) -> None:
        """Note that the files are not what is in effect, and why."""
        self.report = Report(False, time.time(), problems, self.begun)
        for line in problems:
            log.error("configuration refused: %s", line)
        generation = self._house.dataplane.table.generation
        self._house.health.degrade(
            "config",
            f"the files are not in effect; the last good configuration (generation {generation}) "
            f"serves: {problems[0]}",
        )


def _lines(problems: Iterable[object]) -> tuple[str, ...]:
    return tuple(str(problem) for problem in problems)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("bindings could not be swapped in", exc_info=task.exception())
