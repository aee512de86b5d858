"""Whether a canary is kept, promoted or rolled back: a table of states and a pure decision.

Knows figures and the time that has passed, and nothing else: no clock, no release, no disk.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from edged.config.rollout import GuardConfig
from edged.rollout.drift import Reference, drift_of, psi_of, strange_of
from edged.rollout.tally import Side, Tally

_FLOOR_NS = 500_000
"""A 99th percentile that is less than this above the stable one's is no harm to anybody."""
_P99 = 0.99
LOOKS = 30
"""Requests before a distribution is judged: the elements of one tensor are much alike."""
_CERTAIN = 3.0
"""Standard deviations by which more than one in a hundred must be slow, before that is no chance:
of few answers the 99th percentile is the slowest one, and any release has one that is slow.
Likewise by which more must be errors, where the stable release has some."""


class Phase(enum.Enum):
    """Where a rollout is."""

    RUNNING = "running"
    PASSED = "passed"
    """Good, and waiting for an operator."""
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    ABORTED = "aborted"
    """Rolled back by an operator."""


OVER = frozenset({Phase.PROMOTED, Phase.ROLLED_BACK, Phase.ABORTED})
"""No request goes to a side any more, and nothing leads out of these but another rollout."""
NEXT: dict[Phase, frozenset[Phase]] = {
    Phase.RUNNING: frozenset({Phase.PASSED, *OVER}),
    Phase.PASSED: OVER,
    Phase.PROMOTED: frozenset(),
    Phase.ROLLED_BACK: frozenset(),
    Phase.ABORTED: frozenset(),
}


class Verdict(NamedTuple):
    """What becomes of it, and why."""

    phase: Phase
    reason: str


class Sides(NamedTuple):
    """The two that are held against each other, by release."""

    stable: int
    canary: int


def judge(
    tally: Tally,
    sides: Sides,
    guard: GuardConfig,
    references: Mapping[str, Reference],
    *,
    is_shadowed: bool,
    hopeless: str = "",
) -> Verdict | None:
    """Decide.

    Args:
        tally: what they have done.
        sides: which releases.
        guard: what the canary is held to.
        references: of the canary's bundle, where drift is looked at.
        is_shadowed: whether the canary is also asked what the stable one is.
        hopeless: why it cannot answer at all and will not by itself; empty while it can.

    Returns:
        What to do; None to go on.
    """
    if hopeless:
        return Verdict(Phase.ROLLED_BACK, f"release {sides.canary} cannot serve: {hopeless}")
    breach = next(_breaches(tally, sides, guard, references, is_shadowed=is_shadowed), "")
    if breach:
        return Verdict(Phase.ROLLED_BACK, breach)
    if tally.elapsed_ns < guard.window or missing(
        tally, sides, guard, references, is_shadowed=is_shadowed
    ):
        return None
    canary = tally.side(sides.canary)
    reason = (
        f"{canary.answers} answers, {canary.errors} of them errors, within the guard's limits over "
        f"{tally.elapsed_ns / 1e9:.0f} s"
    )
    return Verdict(Phase.PROMOTED if guard.promote else Phase.PASSED, reason)


def missing(
    tally: Tally,
    sides: Sides,
    guard: GuardConfig,
    references: Mapping[str, Reference],
    *,
    is_shadowed: bool,
) -> str:
    """What is not known well enough yet to promote; empty when everything is."""
    counts = {
        f"answers of release {sides.canary}": tally.side(sides.canary).answers,
        f"answers of release {sides.stable}": tally.side(sides.stable).answers,
    }
    if is_shadowed:
        counts["comparisons"] = tally.compared + tally.failed_again
    for name in references:
        counts[f"elements of {name}"] = _seen(tally, name)
    looks = min((_looks(tally, name) for name in references), default=LOOKS)
    stable, canary = tally.side(sides.stable), tally.side(sides.canary)
    unclear: list[str] = []
    if canary.errors > _errors_allowed(stable, canary, guard)[0]:
        unclear.append(f"whether release {sides.canary} fails more, or did by chance")
    if canary.timed and canary.percentile_ns(_P99) > _limit_ns(stable, guard):
        unclear.append(f"whether release {sides.canary} is slower, or was by chance")
    short = [f"{count} of {guard.minimum} {what}" for what, count in counts.items()
             if count < guard.minimum]  # fmt: skip
    if guard.psi is not None and looks < LOOKS:
        short.append(f"{looks} of {LOOKS} requests whose tensors were looked at")
    return ", ".join(short or unclear)


def _breaches(
    tally: Tally,
    sides: Sides,
    guard: GuardConfig,
    references: Mapping[str, Reference],
    *,
    is_shadowed: bool,
) -> Iterator[str]:
    stable, canary = tally.side(sides.stable), tally.side(sides.canary)
    yield from _errors(stable, canary, sides, guard)
    if min(stable.timed, canary.timed) >= guard.minimum:
        limit_ns, count = _limit_ns(stable, guard), canary.timed
        few = (1 - _P99) * count
        if canary.slower_than(limit_ns) > few + _CERTAIN * math.sqrt(_P99 * few):
            old_ns, new_ns = stable.percentile_ns(_P99), canary.percentile_ns(_P99)
            yield (
                f"latency: the 99th percentile of release {sides.canary} is {new_ns / 1e6:.2f} ms, "
                f"that of release {sides.stable} {old_ns / 1e6:.2f} ms: "
                f"{new_ns / max(old_ns, 1):.2f} times, at most {guard.latency:g}"
            )
    asked = tally.compared + tally.failed_again if is_shadowed else 0
    differing = tally.differing + tally.failed_again
    if asked >= guard.minimum and differing * 100 > guard.disagreement * asked:
        yield (
            f"disagreement: {differing} of {asked} answers that were compared with release "
            f"{sides.stable} differ ({100 * differing / asked:.2f} %), at most "
            f"{guard.disagreement:g} %"
        )
    yield from _drifts(tally, guard, references)


def _drifts(tally: Tally, guard: GuardConfig, references: Mapping[str, Reference]) -> Iterator[str]:
    for name, reference in references.items():
        found = tally.moments.get(name)
        if found is None or _seen(tally, name) < guard.minimum:
            continue
        strange = strange_of(found)
        if strange > guard.nan:
            yield (
                f"drift: {found.strange} of {_seen(tally, name)} elements of {name} are NaN or "
                f"infinite ({strange:.2f} %), at most {guard.nan:g} %"
            )
        moved = drift_of(reference, found)
        if guard.drift is not None and moved > guard.drift:
            yield (
                f"drift: the mean of {name} is {moved:.2f} standard deviations from that of the "
                f"bundle's samples, at most {guard.drift:g}"
            )
        psi = psi_of(reference, found)
        if guard.psi is not None and found.looks >= LOOKS and psi > guard.psi:
            yield (
                f"drift: {name} is spread otherwise than in the bundle's samples: a population "
                f"stability index of {psi:.2f} over {found.looks} requests, at most {guard.psi:g}"
            )


def _limit_ns(stable: Side, guard: GuardConfig) -> int:
    """What the canary's 99th percentile may be."""
    old_ns = stable.percentile_ns(_P99)
    return int(max(guard.latency * old_ns, old_ns + _FLOOR_NS))


def _errors(stable: Side, canary: Side, sides: Sides, guard: GuardConfig) -> Iterator[str]:
    """Errors beyond the limit; also before there are enough answers, once none can mend it."""
    allowed, chance = _errors_allowed(stable, canary, guard)
    if canary.errors > allowed + chance:
        yield (
            f"errors: {canary.errors} of {canary.answers} answers of release {sides.canary} are "
            f"errors, of release {sides.stable} {stable.errors} of {stable.answers}; at most "
            f"{guard.errors:g} % more"
        )


def _errors_allowed(stable: Side, canary: Side, guard: GuardConfig) -> tuple[float, float]:
    """Errors that the canary may have, and how many more may be chance where the stable has any."""
    judged = max(canary.answers, guard.minimum)
    known, times = stable.error_rate, float(judged)
    if stable.errors and stable.answers < guard.minimum:
        known = _at_most(stable)  # what it does is not known yet, and it does fail
    elif stable.answers:
        times = judged * (1 + judged / stable.answers)  # what is known of it is chance, too
    chance = _CERTAIN * math.sqrt(known * (1 - known) * times)
    return (known + guard.errors / 100) * judged, chance


def _at_most(side: Side) -> float:
    """The rate of errors that it hardly exceeds, by Wilson's interval."""
    each = _CERTAIN**2 / side.answers
    rate = side.error_rate
    half = _CERTAIN * math.sqrt((rate * (1 - rate) + each / 4) / side.answers)
    return min(1.0, (rate + each / 2 + half) / (1 + each))  # rounding may go beyond


def _looks(tally: Tally, name: str) -> int:
    found = tally.moments.get(name)
    return found.looks if found is not None else 0


def _seen(tally: Tally, name: str) -> int:
    found = tally.moments.get(name)
    return found.count + found.strange if found is not None else 0
