"""All brokers of the house: a ``BrokerLinks`` for each line of messages, and one face for them.

Decides which lines there are; what happens on one is ``link.py``'s, which knows of no other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from edged.broker.heirs import FOLDER, folder_of, forget, lines_left, possible_lines, with_heirs
from edged.broker.keeping import Keeping
from edged.broker.link import BrokerLinks
from edged.broker.moves import moved, takers
from edged.broker.results import left_on_disk
from edged.config.binding import BindingConfig
from edged.config.broker_lines import Line, config_of, line_of, lines_of
from edged.config.load import Snapshot
from edged.errors import FieldError
from edged.generation.fitting import renumbered
from edged.manifest import ManifestOf
from edged.serving.dataplane import Dataplane
from edged.telemetry.health import Health

if TYPE_CHECKING:
    from edged.transports.bindings.binding import Binding
    from edged.transports.bindings.binding_set import BindingSet
    from edged.transports.bindings.desired import Offer
    from edged.transports.bindings.questions import Call


log = logging.getLogger("edged.mqtt")

_MOVE_S, _LOOK_S = 5.0, 0.02
"""So long a binding may take from one line to another, and who waits for it looks so often."""
_LOOK_AGAIN_S = 1.0

Prepared = Mapping[Line, "BindingSet | None"]


class _Health(Health):
    """What one line says of its health, under the line's name."""

    def __init__(self, whole: Health, line: Line) -> None:
        super().__init__()
        self._whole, self._name = whole, f"brokers.{line.name}"

    def degrade(self, key: str, reason: str) -> None:
        self._whole.degrade(key.replace("mqtt", self._name, 1), reason)

    def restore(self, key: str) -> None:
        self._whole.restore(key.replace("mqtt", self._name, 1))


class Brokers:
    """See above; the words are those of BrokerLinks.

    What ``swap`` and ``refresh`` are asked is done one after the other: a model becomes ready while
    a reload moves bindings. ``drain`` may come at any time.

    Args:
        dataplane: the one door.
        health: where lost brokers are noted.
        state_dir: of the daemon.
        calls: what can be asked of the daemon over the broker of ``mqtt``.
    """

    def __init__(
        self,
        dataplane: Dataplane,
        health: Health,
        state_dir: Path,
        calls: Mapping[str, Call] | None = None,
    ) -> None:
        self._dataplane, self._health, self._state_dir = dataplane, health, state_dir
        self._keeping = Keeping(state_dir, health)
        first = BrokerLinks(dataplane, health, state_dir, calls, keeping=self._keeping)
        self._lines = {Line(): first}
        self._leavers: list[asyncio.Task[None]] = []
        """Each waits until a line that no binding has any more has nothing left."""
        self._announced: tuple[dict[str, Any], list[dict[str, Any]]] | None = None
        self._is_drained = False
        self._turn = asyncio.Lock()
        self._begun: asyncio.Future[None] | None = None
        """The last of what was asked."""
        self._said_left: set[str] = set()
        self._unmade: list[str] = []
        """Keys of the health of lines that have no folder."""

    def prepare(
        self, snapshot: Snapshot, bindings: Sequence[BindingConfig], of: ManifestOf
    ) -> Prepared:
        """Make bindings that could serve, by line.

        Raises:
            FieldError: one of them cannot; with the path ``bindings[i]...``.
        """
        made: dict[Line, BindingSet | None] = {}
        for line in lines_of(snapshot.config):
            numbers = [
                at for at, one in enumerate(bindings) if line_of(snapshot.config, one) == line
            ]
            own = [bindings[at] for at in numbers]
            try:
                made[line] = self._lines[Line()].prepare(_of(snapshot, line), own, of)
            except FieldError as exc:
                raise FieldError(renumbered(exc.path, numbers), exc.reason) from exc
        for line, found in made.items():
            others = [one for at, one in made.items() if at != line and at.broker == line.broker]
            if found is not None:
                found.beside = tuple(binding for one in others if one for binding in one.bindings)
        return made

    async def swap(self, snapshot: Snapshot, prepared: Prepared | None) -> None:
        """Serve by these bindings from now on, and reconcile the broker connections."""
        if not self._is_drained:
            await self._to_its_end(self._swap(snapshot, prepared))

    async def _to_its_end(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it all, though who asked for it is cancelled, as when the daemon stops.

        A line that is half way out has work in hand, and nobody else knows of it.
        """

        async def in_turn() -> None:
            async with self._turn:
                await work

        self._begun = asyncio.ensure_future(in_turn())
        await asyncio.shield(self._begun)

    async def _swap(self, snapshot: Snapshot, prepared: Prepared | None) -> None:
        await self._stop_leavers()
        found = prepared if prepared is not None and snapshot.config.mqtt is not None else {}
        wanted = await asyncio.to_thread(self._with_heirs, snapshot, found)
        if wanted:
            await self._keeping.follow(snapshot.config.bindings)
        moves = moved({line: link.bindings for line, link in self._lines.items()}, wanted)
        gone = [one for one in self._lines if one not in wanted and one != Line()]
        nothing = replace(snapshot, config=structs.replace(snapshot.config, mqtt=None))
        await self._end([line for line in gone if line not in moves], nothing, moves)
        while self._unmade:
            self._health.restore(self._unmade.pop())
        for line, bindings in wanted.items():
            kept = bindings.with_others(moves.get(line, ())) if bindings is not None else None
            await self._swap_line(line, _of(snapshot, line), kept)
        if moves:
            await self._taken_over(moves, wanted)
            for line in wanted.keys() & moves.keys():
                bindings = wanted[line]
                left = bindings.left_by(moves[line]) if bindings is not None else None
                await self._swap_line(line, _of(snapshot, line), left)
            await self._end([line for line in gone if line in moves], nothing, moves)
        if Line() not in wanted:
            await self._lines[Line()].swap(snapshot, None)
        others = await asyncio.to_thread(self._left, snapshot, wanted)
        for line, bindings in others.items():
            await self._swap_line(line, _of(snapshot, line), bindings)
            self._leavers.append(asyncio.ensure_future(self._let_go(line, nothing)))
        used = {folder_of(self._state_dir, line).name for line in (*wanted, *others)}
        await asyncio.to_thread(self._say_left, used)

    def _with_heirs(self, snapshot: Snapshot, prepared: Prepared) -> Prepared:
        """Let lines answer what their sessions have for bindings that moved."""
        made: dict[Line, BindingSet | None] = {}
        for line, bindings in prepared.items():
            link, folder = self._lines.get(line), folder_of(self._state_dir, line)
            is_new = link is None or link.bindings is None
            made[line] = bindings and with_heirs(
                bindings, folder, snapshot.config, line, is_new=is_new
            )
        return made

    def _left(self, snapshot: Snapshot, wanted: Prepared) -> Prepared:
        """Lines that no binding has any more, and whose sessions have messages for some."""
        found: dict[Line, BindingSet | None] = {}
        some = next((one for one in wanted.values() if one is not None), None)
        for line in lines_left(self._state_dir, snapshot.config) if some is not None else ():
            if line in wanted or some is None:
                continue
            beside = [one for at, one in wanted.items() if one and at.broker == line.broker]
            empty = some.with_bindings(())
            empty.past, empty.beside = (), tuple(one for its in beside for one in its.bindings)
            made = with_heirs(empty, folder_of(self._state_dir, line), snapshot.config, line)
            if made is not empty:
                found[line] = made
        return found

    async def _let_go(self, line: Line, nothing: Snapshot) -> None:
        """End a line when its broker has no more for it."""
        link = self._lines.get(line)
        if link is None:
            return
        log.info("what is left at %s for bindings that moved is answered first", line.name)
        while not await link.give_back((), _MOVE_S):
            if self._is_drained:
                return
            await asyncio.sleep(_LOOK_AGAIN_S)

        own = asyncio.current_task()

        async def end() -> None:
            # Not where a change had its turn before this: bindings may go by this line again.
            if own in self._leavers and self._lines.get(line) is link:
                await self._end([line], nothing, {})
                await asyncio.to_thread(forget, folder_of(self._state_dir, line))

        await self._to_its_end(end())

    async def _stop_leavers(self) -> None:
        leavers, self._leavers = self._leavers, []
        for one in leavers:
            one.cancel()
        await asyncio.gather(*leavers, return_exceptions=True)

    async def _taken_over(self, moves: Mapping[Line, list[Binding]], wanted: Prepared) -> None:
        """Wait until who reads the filters from now on is subscribed, if we hear the broker."""
        links = [self._lines[line] for line in takers(moves, wanted) if line in self._lines]
        until_s = asyncio.get_running_loop().time() + _MOVE_S
        while not all(link.is_subscribed for link in links) and not self._is_drained:
            is_heard = any(self._lines[line].is_subscribed for line in moves if line in self._lines)
            if not is_heard:
                return
            if asyncio.get_running_loop().time() > until_s:
                log.warning("no word of a broker for bindings that moved: messages may be lost")
                return
            await asyncio.sleep(_LOOK_S)

    async def _end(
        self, lines: Sequence[Line], nothing: Snapshot, moves: Mapping[Line, list[Binding]]
    ) -> None:
        """Answer what is in hand and say goodbye, on all of these lines at once.

        Args:
            lines: which.
            nothing: a configuration without a broker.
            moves: bindings that others have from now on.
        """

        async def end(line: Line, link: BrokerLinks) -> None:
            gone = moves.get(line, ())
            has_rested = bool(gone) and await link.give_back(gone, _MOVE_S)
            await link.swap(nothing, None)
            await link.drain(0)
            if has_rested:
                await asyncio.to_thread(forget, folder_of(self._state_dir, line))

        await asyncio.gather(*(end(line, self._lines.pop(line)) for line in lines))

    async def _swap_line(self, line: Line, snapshot: Snapshot, bindings: BindingSet | None) -> None:
        if self._is_drained:
            return  # meanwhile; what is opened now nobody would close
        link = self._lines.get(line) or self._made(line)
        if link is not None:
            await link.swap(snapshot, bindings)

    def _made(self, line: Line) -> BrokerLinks | None:
        folder = folder_of(self._state_dir, line)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            # The messages stay with their broker; those of the other lines flow.
            text = f"{folder}: cannot be made: {exc.strerror}"
            log.error("%s", text)
            key = f"brokers.{line.name}"
            self._unmade.append(key)
            self._health.degrade(key, text)
            return None
        made = self._lines[line] = BrokerLinks(
            self._dataplane, _Health(self._health, line), folder, {},
            keeping=self._keeping, speaks=line.speaks,
        )  # fmt: skip
        if self._announced is not None:
            made.announce(*self._announced)
        return made

    def _say_left(self, used: set[str]) -> None:
        """Say once of each line that is no more what it has not delivered."""
        for folder in sorted((self._state_dir / FOLDER).glob("*")):
            if folder.name in used:
                self._said_left.discard(folder.name)
            elif folder.name not in self._said_left and left_on_disk(folder):
                self._said_left.add(folder.name)
                log.warning(
                    "results are left in %s: no binding goes that way any more; write one again "
                    "to deliver them, or remove the folder",
                    folder,
                )

    async def refresh(self, snapshot: Snapshot) -> None:
        """Look again at passwords and certificates; other ones mean another connection."""
        if not self._is_drained:
            await self._to_its_end(self._refresh(snapshot))

    async def _refresh(self, snapshot: Snapshot) -> None:
        if self._lines[Line()].bindings is not None or not self._keeping.is_usable:
            await self._keeping.follow(snapshot.config.bindings)
        # Also those that are left: a password may change before they have their broker's last word.
        lines = {*lines_of(snapshot.config), *possible_lines(snapshot.config)}
        for line, link in list(self._lines.items()):
            if line in lines:
                await link.refresh(_of(snapshot, line))

    def announce(self, info: dict[str, Any], models: list[dict[str, Any]]) -> None:
        """Publish what we are; kept and published again after each reconnect."""
        self._announced = info, models
        for link in self._lines.values():
            link.announce(info, models)

    def report(self, document: dict[str, Any]) -> None:
        """Say what became of a configuration that came over the broker of ``mqtt``."""
        self._lines[Line()].report(document)

    def cut(self) -> str:
        """Why the broker of ``mqtt`` is out of reach, by which we are spoken to; else empty."""
        return self._lines[Line()].cut()

    @property
    def offer(self) -> Offer | None:
        """Takes configurations that come over the broker of ``mqtt``."""
        return self._lines[Line()].offer

    @offer.setter
    def offer(self, offer: Offer | None) -> None:
        self._lines[Line()].offer = offer

    def stats(self) -> dict[str, Any] | None:
        """For the status page: the first line's, and the others by name; None without a broker."""
        found = self._lines[Line()].stats()
        if found is None:
            return None
        others = {line.name: link.stats() for line, link in self._lines.items() if line != Line()}
        for one in others.values():
            if one is not None:
                del one["states"]  # what is remembered is everybody's
        return {**found, "brokers": {name: one for name, one in others.items() if one is not None}}

    def line(self) -> str:
        """A few words for the service manager's status line."""
        words = [self._lines[Line()].line()]
        for line, link in self._lines.items():
            if line != Line() and link.line():
                words.append(f"{line.name}: {link.line()}")
        return ", ".join(word for word in words if word)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, finish what is in hand, and say goodbye, on all lines at once."""
        self._is_drained = True
        await self._stop_leavers()
        await asyncio.gather(*(link.drain(timeout_s) for link in self._lines.values()))
        if self._begun is not None:
            await asyncio.wait((self._begun,))  # it opens nothing any more
        await self._stop_leavers()
        await self._keeping.close()


def _of(snapshot: Snapshot, line: Line) -> Snapshot:
    return replace(snapshot, config=config_of(snapshot.config, line))
