"""The slots of a device: how many runs are under way there, of whom, and who waits for the next.

Decides nothing: whose turn it is, is ``precedence.next_turn``'s decision. Runs on the event loop
itself take no slot; their order is ``Turn``'s. Used from the event loop only.
"""

from __future__ import annotations

import time
from typing import Protocol

from edged.config.schema import Config
from edged.runtimes.registry import LINES, device_of
from edged.serving.scheduling.hand import Begin, Hand
from edged.serving.scheduling.precedence import (
    NEVER_NS,
    Held,
    Loads,
    Rules,
    Run,
    Shares,
    Want,
    fits,
    may_start,
    next_turn,
)
from edged.system.cores import usable


class Ranked(Protocol):
    """A release, as far as it says whether it may start."""

    rank: int

    @property
    def is_short(self) -> bool:
        """Whether its runs are short."""
        ...


class Holder(Ranked, Protocol):
    """A release, as its device sees it."""

    @property
    def due_ns(self) -> int:
        """The first deadline of what it would run; ``precedence.NEVER_NS`` without one."""
        ...

    def granted(self) -> None:
        """Its turn has come: take a slot and start, or do nothing."""
        ...

    @property
    def typical_run_ns(self) -> int:
        """How long its runs take."""
        ...

    def recall(self) -> bool:
        """Take back what is ahead, for somebody else goes first; False when that has begun."""
        ...

    def get_ready(self, wait_ns: int) -> Begin | None:
        """A batch to follow whichever run ends first, which takes so long; it goes on waiting."""
        ...

    @property
    def has_begun(self) -> bool:
        """Whether a thread has begun what it gave for that."""
        ...

    def presses(self, rank: int) -> bool:
        """Whether more of it waits for the end of a run of its own, before that class."""
        ...

    def begun(self) -> None:
        """It has a slot for that now; then ``granted`` is called, for what else it wants."""
        ...


class DeviceSlots:
    """The slots of one device.

    Args:
        rules: as configured; may be replaced by ``configure``.
    """

    def __init__(self, rules: Rules) -> None:
        self.held = Held()
        self.waits = [0] * 3
        """By class, how often somebody had to wait for a slot."""
        self.has_plenty = True
        """Whether anybody may begin a run; false is no more than a reason to look closer."""
        self._chances_ns = [0] * 3
        """By class, when it could last begin a run, or another of it did."""
        self._loads = Loads()
        self._line: dict[Holder, int] = {}
        self._since_ns = NEVER_NS
        """Since when the one waited that begins now."""
        self._eager: set[Holder] = set()
        self._granted: Holder | None = None
        self.hand = Hand()
        self._ready: Holder | None = None
        """Whose batch is in hand; it still stands in line."""
        self._followed: Holder | None = None
        """Whose batch that was, and has begun."""
        self._is_changing = False
        """Between ``give`` and the end of ``serve``: who is next is not settled."""
        self._runs: dict[Holder, list[Run]] = {}
        self._shares = Shares()
        self.configure(rules)

    def configure(self, rules: Rules) -> None:
        """Follow other rules from the next start on."""
        self.rules = rules
        # Below this many runs everybody may start: the usual case needs no deciding.
        self._plenty = rules.slots - sum(rules.reserved)
        self.serve()

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._line)

    def take(self, holder: Holder) -> bool:
        """Take a slot for one run now, or stand in line for it; then ``granted`` is called."""
        if self._granted is holder:
            self._granted = None
        elif self._line or self.held.total >= self._plenty:
            if not self._is_next(holder):
                return False
            self._since_ns = self._line.pop(holder, NEVER_NS)
        self.hold(holder)
        self._since_ns = NEVER_NS
        return True

    def hold(self, holder: Holder) -> None:
        """Count a run that has begun; each ends with ``give``."""
        rank, is_short = holder.rank, holder.is_short
        is_express = False
        if self.held.total >= self._plenty:
            may = may_start(rank, self.held, self.rules, is_short=is_short)
            is_express = may and not fits(rank, self.held, self.rules)
        if self.held.total + 1 >= self._plenty:
            now_ns = time.monotonic_ns()
            if self.has_plenty:
                # Until now anybody could have begun.
                self.has_plenty = False
                self._chances_ns = [now_ns] * len(self._chances_ns)
            elif now_ns - self._since_ns < self.rules.starvation_ns:
                self._chances_ns[rank] = now_ns
        if self.rules.weights is not None:
            self._shares.want(rank)
            self._shares.begin(rank, [one.rank for one in self._line])
        run = Run(rank, is_short, is_express)
        self._runs.setdefault(holder, []).append(run)
        self.held.add(run)

    def kept_out_ns(self, rank: int, now_ns: int) -> int:
        """For how long higher classes have taken every slot that a class could have had."""
        above, below = self._chances_ns[:rank], self._chances_ns[rank:]
        if max(above, default=0) <= max(below):
            return 0
        # Who has waited for longer goes first all the same.
        return min(now_ns - max(below), self.rules.starvation_ns)

    def left_for(self, rank: int) -> float:
        """The share of the device's time that higher classes leave to a class."""
        if self.rules.weights is not None:
            return 1.0  # they leave it its own
        return self._loads.left_for(rank, self.rules.slots)

    def give(self, holder: Holder, run_ns: int) -> None:
        """One run of a holder has ended; call ``serve`` for those who wait."""
        # As what it began: a reload may have changed its class since.
        self._note_begun()
        runs = self._runs[holder]
        run = runs.pop(0)
        if not runs:
            del self._runs[holder]
        self.held.add(run, -1)
        self._charge(run.rank, run_ns)
        self._is_changing = True

    def hand_on(self, holder: Holder, run_ns: int) -> None:
        """One run of a holder has ended, and what waited at its threads has its slot."""
        self._eager.discard(holder)
        self._chances_ns[holder.rank] = time.monotonic_ns()
        self._charge(self._runs[holder][0].rank, run_ns)

    def _charge(self, rank: int, run_ns: int) -> None:
        self._loads.add(rank, run_ns, time.monotonic_ns())
        if self.rules.weights is not None:
            self._shares.charge(rank, run_ns, self.rules.weights)

    def ahead(self, holder: Holder) -> bool:
        """Whether a batch may wait at its threads for the end of another of its own."""
        if self._line and not self._outranks_all(holder):
            return False
        if self._ready is not None and not self._take_back():
            return False
        self._eager.add(holder)
        return True

    def overtakes(self, holder: Holder) -> bool:
        """Whether a thread may begin a batch that this one, which has no slot, goes before."""
        if self.rules.weights is not None or self.has_room(holder):
            return False
        ahead = self._eager if self._ready is None else (*self._eager, self._ready)
        return any(holder.rank < one.rank for one in ahead)

    def line_up(self, holder: Holder) -> None:
        """Stand in line at once, for one that overtakes: a turn of the loop is as long as a run."""
        self._is_next(holder)

    def renew(self, holder: Holder) -> None:
        """More waits of whose batch is in hand: it goes along."""
        if self._ready is holder and not self._is_changing and self._take_back():
            self._look_ahead()

    def press(self, holder: Holder) -> None:
        """More waits of who runs as often as it may: at the end of its own it is next."""
        if self._ready is not None and holder.presses(self._ready.rank):
            self._take_back()

    def _outranks_all(self, holder: Holder) -> bool:
        """Whether it goes before everybody who waits, so that what is ahead keeps nobody out."""
        if self.rules.weights is not None or min(one.rank for one in self._line) <= holder.rank:
            return False
        return time.monotonic_ns() - min(self._line.values()) < self.rules.starvation_ns

    def leave(self, holder: Holder) -> None:
        """Want nothing any more; what runs is still to be given back."""
        if self._ready is holder:
            self._take_back()
        elif holder in self._eager:
            holder.recall()  # or two would begin at the end of one run
        self._line.pop(holder, None)
        self._eager.discard(holder)

    def settled(self, holder: Holder) -> None:
        """What waited at its threads was taken back."""
        self._eager.discard(holder)

    def has_room(self, holder: Ranked) -> bool:
        """Whether a run of its could begin at once, before anybody who waits."""
        return self.held.total < self._plenty or may_start(
            holder.rank, self.held, self.rules, is_short=holder.is_short
        )

    def serve(self) -> None:
        """Let those start that may, one after the other."""
        while True:
            followed, self._followed = self._followed, None
            if followed is not None:
                followed.granted()
            holder = self._next()
            if holder is None:
                break
            if holder is self._ready and not self._take_back():
                self._note_begun()
                continue
            self._since_ns = self._line.pop(holder)
            self._granted = holder
            holder.granted()
            self._granted, self._since_ns = None, NEVER_NS
        self.has_plenty = self.held.total < self._plenty
        self._is_changing = False
        self._look_ahead()

    def _is_next(self, holder: Holder) -> bool:
        """Stand in line, and say whether its turn is now."""
        if holder not in self._line:
            self._shares.want(holder.rank)
            self._line[holder] = time.monotonic_ns()
        if self._next() is holder:
            return True
        self.waits[holder.rank] += 1
        for other in list(self._eager):
            if other is not holder and not self._outranks_all(other):
                other.recall()
        if not self._is_changing:
            self._look_ahead()
        return False

    def _next(self) -> Holder | None:
        return self._first(self.held) if self._line else None

    def _first(self, held: Held) -> Holder | None:
        """Who of the line may start while so much is held."""
        wants = [
            Want(one.rank, one.due_ns, since_ns, one.is_short)
            for one, since_ns in self._line.items()
        ]
        index = next_turn(wants, held, self.rules, time.monotonic_ns(), self._shares.used)
        return None if index is None else list(self._line)[index]

    def _look_ahead(self) -> None:
        """Have a batch in hand of who is next when a run ends, whichever that is."""
        holder = self._follower()
        if self._ready is holder or (self._ready is not None and not self._take_back()):
            return
        if holder is not None:
            begin = holder.get_ready(max(one.typical_run_ns for one in self._runs))
            if begin is not None:
                self._ready = holder
                self.hand.put(begin)

    def _follower(self) -> Holder | None:
        rules, held = self.rules, self.held
        if not self._line or self._eager or rules.weights is not None:
            return None  # with weights it depends on how long the run took
        if held.express or held.total != rules.slots or held.short != held.total:
            return None
        freed = Held()  # as if no class had a slot of those that it reserves
        freed.total = freed.short = held.total - 1
        first = self._first(freed)
        if first is None or any(one.presses(first.rank) for one in self._runs):
            return None
        return first

    def _take_back(self) -> bool:
        """Let nothing be in hand; False when a thread has begun it: at its end that is counted."""
        if self._ready is None or not self._ready.recall():
            return False
        self._ready = None
        self.hand.drop()
        return True

    def _note_begun(self) -> None:
        """Count the run that followed another one, if it has."""
        holder = self._ready
        if holder is not None and holder.has_begun:
            self._ready, self._followed = None, holder
            self._since_ns = self._line.pop(holder, NEVER_NS)
            self.hold(holder)
            self._since_ns = NEVER_NS
            holder.begun()


class Devices:
    """The slots of every device of this machine, by the runtime that uses it.

    Args:
        rules: of each of them.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules(len(usable()), has_express=True)
        self._by_name: dict[str, DeviceSlots] = {}

    def of(self, runtime: str) -> DeviceSlots:
        """The slots of the device that a runtime runs on."""
        name = LINES.get(runtime) or device_of(runtime)
        if name not in self._by_name:
            self._by_name[name] = DeviceSlots(self.rules)
        return self._by_name[name]

    def configure(self, rules: Rules) -> None:
        """Follow other rules on every device."""
        self.rules = rules
        for slots in self._by_name.values():
            slots.configure(rules)

    def items(self) -> list[tuple[str, DeviceSlots]]:
        """Each device that is used, by its name."""
        return sorted(self._by_name.items())


def rules_of(config: Config, cores: int) -> Rules:
    """How devices are given out by a configuration.

    Args:
        config: whole, for a model may say how many runs it wants at once.
        cores: that this process may use.
    """
    wanted = config.scheduling
    reserved = (wanted.reserved.high, wanted.reserved.normal, 0)
    weights = (wanted.weights.high, wanted.weights.normal, wanted.weights.low)
    instances = [model.batching.instances for model in config.models.values()]
    return Rules(
        wanted.slots or max(cores, sum(reserved) + 1, *instances, 1),
        reserved,
        int(wanted.starvation),
        weights if wanted.policy == "weighted" else None,
        # Who says a number means it; by itself the device lets no short run wait for long ones.
        has_express=not wanted.slots,
    )
