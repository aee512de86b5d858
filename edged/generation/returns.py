"""Going back: from a configuration that is worse than the one before, and where an operator says.

Decides what is noted of a configuration before it is loaded, when it has proven good, and which
one comes back when it has not. What comes back goes the way of any other change (``reload.py``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from edged.config.load import Snapshot
from edged.config.problems import ConfigProblemsError
from edged.errors import ApplyError, EdgedError
from edged.generation.candidate import Candidate
from edged.generation.content import content_digest
from edged.generation.entries import Entry
from edged.generation.exchange import Exchanges
from edged.generation.history import History, Order, Rejection
from edged.generation.house import House
from edged.generation.looks import Looks
from edged.generation.needed import collect_after, needed_of
from edged.generation.proving import Proving
from edged.generation.record import files_digest, ordered_back, set_aside, settle_boot, went_back_to
from edged.generation.trust_back import narrow, regained
from edged.system.breath import long_work

log = logging.getLogger("edged.reload")

_AFTER_S = 60.0
"""Until a verdict that could not be carried out is asked for once more."""

_NOT_THERE = "there is no generation {} to go back to; see which there are: edged history"


class Returns(Exchanges):
    """What a change needs beside itself: a past.

    Args:
        house: the long-lived parts.
        snapshot: the configuration to boot with.
    """

    def __init__(self, house: House, snapshot: Snapshot) -> None:
        super().__init__(house, snapshot)
        self.digest = self.unnoted = ""
        self.went_back: dict[str, Any] | None = None
        self.on_begin: Callable[[], None] = _nothing
        self.on_end: Callable[[], None] = _nothing
        self.on_verdict: Callable[[], None] = _nothing
        self._looks = Looks(house.dataplane, self._cut)
        self._proving = Proving(self._looks, self._window_over)
        self._must_prove = self._was_good = self._is_booted = self._is_judged = False
        self._windows = 0
        self._origin = "files"
        self._ending: set[asyncio.Task[None]] = set()
        house.repository.collector.in_use = lambda: needed_of(house, self._candidate)

    @property
    def window_left_s(self) -> float | None:
        """Seconds until the configuration in effect has proven itself; None when it need not."""
        return 0.0 if self._is_judged else self._proving.left_s

    async def _apply(self, snapshot: Snapshot, digest: str) -> None:
        raise NotImplementedError

    def rejected(self, problems: tuple[str, ...]) -> None:
        """Note that the files are not what is in effect, and why."""
        raise NotImplementedError

    def accepted(self) -> None:
        """Note that the files are what is in effect."""
        raise NotImplementedError

    @property
    def snapshot(self) -> Snapshot:
        """The files of the configuration in effect."""
        return self._candidate.snapshot

    @property
    def must_prove(self) -> bool:
        """Whether what is in effect did not prove good yet."""
        return self._must_prove

    @property
    def changing(self) -> asyncio.Lock:
        """Held while anything changes what is in effect."""
        return self._lock

    async def take(self, snapshot: Snapshot) -> None:
        """Apply what a document over MQTT makes of the files; whoever asks holds ``changing``.

        Raises:
            EdgedError: it is refused; what serves goes on.
        """
        digest = await asyncio.to_thread(content_digest, snapshot)
        if digest == self.digest:
            return
        await self._refuse_set_aside(digest)
        self._origin = "desired"
        try:
            await self._apply(snapshot, digest)
        finally:
            self._origin = "files"

    @property
    def _history(self) -> History:
        return self._house.record.history

    async def _begin_boot(self, snapshot: Snapshot, crash: str) -> None:
        """Note with what this start is made, before any of it is loaded."""
        house, history = self._house, self._history
        try:
            await asyncio.to_thread(settle_boot, house.config_path, snapshot, house.record, crash)
        except (OSError, EdgedError) as exc:
            log.error("what this start found could not be noted: %s", exc)
        self.digest = await asyncio.to_thread(content_digest, snapshot)
        if snapshot.kept is not None:
            self._origin = "return"
        try:
            self._must_prove = await asyncio.to_thread(
                history.begin, self.digest, has_crashed=bool(crash), is_boot=True
            )
            self._was_good = not self._must_prove
        except OSError as exc:
            # A read-only disk must not keep a box from answering.
            log.error("that this configuration is new could not be noted: %s", exc)

    async def _begin(self, digest: str) -> None:
        """Note what is about to be loaded: a crash meanwhile is held against it."""
        try:
            self._must_prove = await asyncio.to_thread(long_work, self._history.begin, digest)
            self._was_good = not self._must_prove
        except OSError as exc:
            raise ApplyError(f"the state directory cannot be written: {exc.strerror}") from exc

    async def _give_up(self) -> None:
        """It is not going to take effect; whatever ends the daemon now is not its doing."""
        try:
            await asyncio.to_thread(self._history.begin, self.digest)
        except OSError as exc:
            log.warning("that a configuration was refused could not be noted: %s", exc)

    def _prove(self) -> None:
        """What took effect has to show that it is no worse than what was before."""
        if not self._is_booted:  # with whatever it was: what comes now comes from the files
            self._is_booted, self._origin = True, "files"
        self._house.health.restore("generation")
        self.unnoted = ""
        self._windows += 1
        # A verdict that waits for its turn, and is not being carried out now, is out of date.
        self._is_judged = self._is_judged and asyncio.current_task() in self._ending
        is_whole = not self._candidate.problems  # at boot it may not be; then releases stand in
        must_prove = self._must_prove and is_whole
        rules, reconnect_ns = self.config.reload.confirm, self._reconnect_ns()
        self._proving.begin(rules, must_prove=must_prove, reconnect_ns=reconnect_ns)

    def _reconnect_ns(self) -> int:
        mqtt = self.config.mqtt
        desired = mqtt.desired if mqtt is not None else None
        return int(desired.reconnect) if desired is not None else 0

    def _end_window(self) -> None:
        """The daemon ends in good order."""
        self._proving.stop()
        for task in self._ending:
            task.cancel()
        if self._is_booted:
            try:
                self._history.end()
            except OSError as exc:
                log.warning("that this was an end in good order could not be noted: %s", exc)

    async def collect(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """``edged bundle gc``: no change is being made meanwhile."""
        is_dry, collector = arguments.get("dry_run") is not False, self._house.repository.collector
        async with self._lock:
            try:
                plan = await asyncio.to_thread(collector.collect, dry_run=is_dry)
            except OSError as exc:
                raise ApplyError(f"nothing is removed from the store: {exc}") from exc
        return plan.as_dict()

    async def _collect(self) -> None:
        """What took effect needs no other bundles: those that nothing needs leave the store."""
        try:
            await asyncio.to_thread(long_work, collect_after, self._house, self.snapshot)
        except OSError as exc:
            log.warning("nothing is removed from the store: %s", exc)

    def _entry(self, candidate: Candidate) -> Entry:
        releases = {
            name: [item.digest for item in items] for name, items in candidate.releases.items()
        }
        number = self._house.dataplane.table.generation
        return Entry(number, self.digest, time.time(), self._origin, releases)

    async def _refuse_set_aside(self, digest: str) -> None:
        """Raise ApplyError for what was tried and is not to be tried again by itself."""
        marks = await asyncio.to_thread(self._history.marks)
        rejection = marks.rejection(digest)
        if rejection is not None:
            raise ApplyError(set_aside(rejection.reason))

    async def _go_where_ordered(self) -> None:
        """Carry out what an operator ordered, if anything; ``went_back`` says how that went."""
        history = self._history
        await self._tell_floors()
        order = await asyncio.to_thread(history.ordered)
        if order is None:
            return
        problem = trust = ""
        is_cut = False
        try:
            if order.again:
                await asyncio.to_thread(history.lift, await self._files_digest())
            if order.generation is not None:
                back = await asyncio.to_thread(ordered_back, history, order.generation)
                if back is not None and back.kept is not None and not order.generation:
                    # By its number: done once more after a power cut, it would go one further back.
                    await asyncio.to_thread(history.order, Order(back.kept.generation))
                if back is None:
                    raise ApplyError(_NOT_THERE.format(order.generation or "before that is good"))
                trust = await asyncio.to_thread(regained, back, self.snapshot)
                await self._go_back(back, went_back_to(back), "rollback")
                if trust:
                    log.warning("%s: %s", went_back_to(back), trust)
        except EdgedError as exc:
            problem = exc.message
        except OSError as exc:
            problem = str(exc)
        except asyncio.CancelledError:
            is_cut = True  # the daemon ends meanwhile: its next start does it
            raise
        finally:
            if not is_cut:
                await asyncio.to_thread(history.forget_order)
        if problem:
            log.error("could not go back: %s", problem)
        if order.generation is not None:
            said = {"problem": problem, "trust": "" if problem else trust}
            self.went_back = {"to": order.generation, "at": time.time(), **said}

    async def _go_back(self, back: Snapshot, reason: str, origin: str) -> None:
        assert back.kept is not None
        is_ordered = origin == "rollback"
        left = self._house.dataplane.table.generation, self.digest
        if not is_ordered:  # it goes, whether another one can be had or not
            await self._leave(left, back, reason, is_ordered=False)
        self._origin = origin
        try:
            if (back.kept.digest, back.narrowed) != (self.digest, self.snapshot.narrowed):
                await self._apply(back, back.kept.digest)
        finally:
            self._origin = "files"
            # Refused, it changes nothing. Until this is noted, the order is there for a next start.
            if is_ordered and self.digest == back.kept.digest:
                await self._leave(left, back, reason, is_ordered=True)

    async def _leave(
        self, left: tuple[int, str], back: Snapshot, reason: str, *, is_ordered: bool
    ) -> None:
        """Note that a generation (its number and digest) is not to come again by itself."""
        assert back.kept is not None
        history, (number, was) = self._history, left
        # A document that came over MQTT goes back with the generation that it came with.
        try:
            await asyncio.to_thread(self._house.record.documents.follow, back.files, reason)
        except (EdgedError, OSError) as exc:
            # What serves badly goes all the same; its digest is set aside below.
            log.error("that a document goes back, too, could not be noted: %s", exc)
        files = await self._files_digest()
        await asyncio.to_thread(history.lift, back.kept.digest)
        # What the files say now would otherwise come again with the next look at them.
        unwanted = {files, "" if is_ordered else was}
        for digest in unwanted - {"", back.kept.digest}:
            of = number if digest == was else 0
            aside = Rejection(digest, of, time.time(), reason, is_ordered)
            await asyncio.to_thread(history.reject, aside)

    async def _go_one_of(self, back: Snapshot, older: Iterator[Snapshot], reason: str) -> None:
        """Go back to the first that can be served; nothing trusts again whom this one does not.

        Raises:
            EdgedError: why the first cannot, where none can.
        """
        refused: ConfigProblemsError | None = None
        way: Snapshot | None = back
        while way is not None:
            try:
                way = await asyncio.to_thread(narrow, way, self.snapshot)
                await self._go_back(way, reason, "return")
            except ConfigProblemsError as exc:
                log.error("%s", exc.message)
                refused = refused or exc
                way = await asyncio.to_thread(next, older, None)
            else:
                return
        assert refused is not None
        raise refused

    def _window_over(self, reason: str) -> None:
        self._is_judged = True  # whoever waits for the verdict waits until it is carried out
        task = asyncio.get_running_loop().create_task(self._end(self._windows, reason))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, window: int, reason: str) -> None:
        async with self._lock:
            if window != self._windows:
                return  # another one took effect meanwhile
            self.unnoted = ""
            work: Coroutine[Any, Any, None] = self._return(reason) if reason else self._confirm()
            try:
                await work
            except (EdgedError, OSError) as exc:
                said = exc.message if isinstance(exc, EdgedError) else str(exc)
                what = reason or "it served well, which could not be noted; it is tried again"
                self.unnoted = f"{what}: {said}"
                self._house.health.degrade("generation", self.unnoted)
                # A full disk, say: what could not be noted or undone now is not left at that.
                self._proving.begin_again(self.config.reload.confirm, _AFTER_S)
            finally:
                self._is_judged = False

    async def _confirm(self) -> None:
        number = self._house.dataplane.table.generation
        await asyncio.to_thread(self._history.confirm, number, self.digest)
        log.info("generation %d proved good", number)
        await self._confirm_document()
        self._house.health.restore("generation")
        await asyncio.to_thread(self._house.record.raise_floors, self._house.dataplane.table)

    async def _raise_floors(self) -> None:
        """Of what proved good before: a cut or a full disk may have come before its floors."""
        await self._tell_floors()
        if self._was_good and not self._candidate.problems:
            house = self._house
            try:
                await asyncio.to_thread(house.record.raise_floors, house.dataplane.table)
            except (OSError, EdgedError) as exc:
                log.warning("the floors of what proved good could not be noted: %s", exc)

    async def _tell_floors(self) -> None:
        """Say while they are lost: nothing but what serves is taken until somebody sets them."""
        house = self._house
        try:
            await asyncio.to_thread(house.repository.floors.all)
        except EdgedError as exc:
            house.health.degrade("floors", exc.message)
        else:
            house.health.restore("floors")

    async def _confirm_document(self) -> None:
        documents = self._house.record.documents
        if documents.trying and not self.snapshot.left_out:
            await asyncio.to_thread(documents.decide, "accepted")
            documents.trying = 0
        self._is_judged = False
        self.on_verdict()

    async def _files_digest(self) -> str:
        house = self._house
        return await asyncio.to_thread(files_digest, house.config_path, house.record.documents)

    def _cut(self) -> str | None:
        """Why the broker is out of reach, while a document that came over it is on trial."""
        house = self._house
        return house.links.cut() if house.record.documents.trying else None

    async def _return(self, reason: str) -> None:
        number = self._house.dataplane.table.generation
        log.error("generation %d is worse than the one before: %s", number, reason)
        ways = self._history.last_good(self.digest)
        back = await asyncio.to_thread(next, ways, None)
        if back is None:
            said = f"generation {number} serves badly, and none before it proved good: {reason}"
            self._house.health.degrade("generation", said)
            self._proving.begin_again(self.config.reload.confirm)
            return
        self.on_begin()
        try:
            await self._go_one_of(back, ways, f"generation {number} was worse: {reason}")
            if await self._files_digest() == self.digest:
                self.accepted()  # what was worse was a document, and is none of the files any more
            else:
                self.rejected((set_aside(f"generation {number} was worse: {reason}"),))
        finally:
            self.on_end()


def _nothing() -> None:
    pass
