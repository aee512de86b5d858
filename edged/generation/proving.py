"""Whether a new configuration proves good: what is looked at meanwhile, and what ends it.

Decides from figures that are there anyway, against those of the configuration before; asks nobody
and goes back nowhere (``reload.py``). A crash of the daemon is the next start's to judge
(``history.py``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from edged.config.reload import ConfirmConfig
from edged.generation.looks import Look, Seen

_LEAST_FAILURES = 5
"""Fewer say nothing: a client that was cut off, a worker that was started again."""
_LOST_NS = 2_000_000_000
"""A model that answers again within this was not lost: its worker was started again."""
_STEADY_NS = 2_000_000_000
"""A broker that ends the connection for what a document has it do does so sooner."""
_TICK_S = 0.25
_LEAST_TICK_S = 0.01
"""The end may be waited for beyond its time."""
_AGAIN_S = 1.0
"""Until it is looked whether a configuration that nothing can replace serves well again."""


class Tether:
    """Whether the broker stays within reach of a document that came over it. Pure.

    Args:
        reconnect_ns: so long may it be out of reach.
        steady_ns: so long must it have been within reach, in the end.
        now_ns: monotonic clock.
    """

    def __init__(self, reconnect_ns: int, steady_ns: int, now_ns: int) -> None:
        self._reconnect_ns = reconnect_ns
        self._steady_ns = steady_ns
        self._linked_ns: int | None = None
        self._steady_at_ns = now_ns
        self.is_steady = False

    def judge(self, link: str, now_ns: int) -> str:
        """Why it is not good; empty as long as it may be. A link that comes and goes is none."""
        if link:
            self._linked_ns = None
        elif self._linked_ns is None:
            self._linked_ns = now_ns
        self.is_steady = self._linked_ns is not None and now_ns - self._linked_ns >= self._steady_ns
        if self.is_steady:
            self._steady_at_ns = now_ns
        elif now_ns - self._steady_at_ns >= self._reconnect_ns + self._steady_ns:
            return f"the broker that it came over is out of reach: {link or 'it comes and goes'}"
        return ""


def share_of_failures(before: Seen, now: Seen) -> tuple[int, int]:
    """Answers since then, and how many of them failed."""
    requests = failures = 0
    if now.answers is before.answers:
        return 0, 0
    known = before.answers
    for key, counts in now.answers.items():
        counts_before = known.get(key, (0, 0))
        if counts == counts_before:
            continue  # most of hundreds were not asked since
        (asked, failed), (asked_before, failed_before) = counts, counts_before
        requests += max(0, asked - asked_before)
        failures += max(0, failed - failed_before)
    return requests, failures


class Window:
    """One configuration's time to prove itself.

    Args:
        rules: how long, and how much may fail.
        usual: share of answers that failed under the configuration before.
        begun: what was seen when it took effect.
        now_ns: monotonic clock at that moment.
        reconnect_ns: so long may the broker be out of reach, where that counts.
    """

    def __init__(
        self, rules: ConfirmConfig, usual: float, begun: Seen, now_ns: int, reconnect_ns: int = 0
    ) -> None:
        self._rules = rules
        self._usual = usual
        self._begun = begun
        self.ends_ns = now_ns + int(self._rules.window)
        steady_ns = min(_STEADY_NS, int(self._rules.window))
        self._tether = Tether(reconnect_ns, steady_ns, now_ns)
        self._lost_since: dict[str, int] = {}
        self._counted, self._share = begun, (0, 0)

    def judge(self, seen: Seen, now_ns: int) -> str | None:
        """Why it is not good; empty when the time is over and it is; None while it goes on."""
        for name in self._lost_since.keys() - seen.lost.keys():
            del self._lost_since[name]
        for name, why in seen.lost.items():
            if name in self._begun.lost:
                continue  # not well before it was switched to either
            since_ns = self._lost_since.setdefault(name, now_ns)
            if name in seen.failed or now_ns - since_ns >= _LOST_NS:
                return f'model "{name}" does not answer any more' + (f": {why}" if why else "")
        requests, failures = self._count(seen)
        most = max(self._rules.max_errors, 2 * self._usual)
        if failures >= _LEAST_FAILURES and failures > most * requests:
            return (
                f"{failures} of {requests} answers failed (usual: {self._usual:.1%}, allowed: "
                f"{most:.1%})"
            )
        if seen.link is not None and int(self._rules.window):
            reason = self._tether.judge(seen.link, now_ns)
            if reason or not self._tether.is_steady:
                return reason or None
        return "" if now_ns >= self.ends_ns else None

    def _count(self, seen: Seen) -> tuple[int, int]:
        """Answers since the beginning, and how many of them failed."""
        if seen.answers is not self._counted.answers:  # else nothing failed since
            begun, self._counted = self._begun, seen
            if begun.lost:
                # One that was not well before says nothing of what came since.
                answers = {key: n for key, n in seen.answers.items() if key[0] not in begun.lost}
                seen = Seen(answers, {})
            self._share = share_of_failures(begun, seen)
        return self._share


class Looking(Protocol):
    """Who looks at the figures; see ``looks.py``."""

    def begun(self) -> Seen:
        """All of them as they are now."""
        ...

    def steps(self) -> Look:
        """What tells the same of what failed and of who is lost, in pieces."""
        ...


class Proving:
    """The window of the configuration in effect; used from the event loop.

    Args:
        looks: at the figures.
        on_end: told once for each window that ends by itself: why it failed, empty when it did not.
    """

    def __init__(self, looks: Looking, on_end: Callable[[str], None]) -> None:
        self._looks = looks
        self._on_end = on_end
        self._since = Seen({}, {})
        self._usual = 0.0
        self._window: Window | None = None
        self._timer: asyncio.Handle | None = None
        self._reconnect_ns = 0

    @property
    def left_s(self) -> float | None:
        """Seconds until it has proven itself; None when nothing has to."""
        if self._window is None:
            return None
        return max(0.0, (self._window.ends_ns - time.monotonic_ns()) / 1e9)

    def begin(self, rules: ConfirmConfig, *, must_prove: bool, reconnect_ns: int = 0) -> None:
        """A configuration took effect.

        Args:
            rules: of the configuration.
            must_prove: False for one that proved good before.
            reconnect_ns: so long may the broker be out of reach, where that counts.
        """
        self._reconnect_ns = reconnect_ns
        self.stop()
        seen = self._looks.begun()
        before, self._since, self._usual = self._since, seen, 0.0
        if seen.failures:
            requests, failures = share_of_failures(before, seen)
            self._usual = failures / requests if requests else 0.0
        if must_prove:
            self._open(rules, seen)

    def begin_again(self, rules: ConfirmConfig, after_s: float = 0.0) -> None:
        """It failed and stays: let it prove itself anew, as soon as no model is lost."""
        self.stop()
        if after_s:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(after_s, self.begin_again, rules)
            return
        seen = self._looks.begun()
        if seen.lost:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_AGAIN_S, self.begin_again, rules)
        else:
            self._open(rules, seen)

    def stop(self) -> None:
        """End without a verdict."""
        self._window = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _open(self, rules: ConfirmConfig, seen: Seen) -> None:
        now_ns = time.monotonic_ns()
        self._window = Window(rules, self._usual, seen, now_ns, self._reconnect_ns)
        if not rules.window:
            self._judge(seen)
            return
        self._timer = asyncio.get_running_loop().call_later(_LEAST_TICK_S, self._tick)

    def _tick(self) -> None:
        self._go_on(self._looks.steps())

    def _go_on(self, look: Look) -> None:
        """With hundreds of models a whole look takes long: the loop does other things between."""
        self._timer = None
        try:
            next(look)
        except StopIteration as end:
            self._judge(end.value)
        else:
            self._timer = asyncio.get_running_loop().call_soon(self._go_on, look)

    def _judge(self, seen: Seen) -> None:
        window = self._window
        if window is None:
            return
        now_ns = time.monotonic_ns()
        reason = window.judge(seen, now_ns)
        if reason is None:
            pause_s = min(_TICK_S, max(_LEAST_TICK_S, (window.ends_ns - now_ns) / 1e9))
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._tick)
            return
        self._window = None
        self._on_end(reason)
