"""Which of a bundle's precisions serves, and on which runtime: what is faster on this very device.

Decides by figures alone. A lower precision has to earn its place: it costs accuracy, if only inside
a budget, so that a tie goes to the file that the bundle lists first. Between runtimes of one
precision nothing is at stake but time, so that the faster wins. ``race`` takes the figures.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

from edged.costs import Costs
from edged.engines.packed import engines_of
from edged.errors import EdgedError, IncompatibleError
from edged.loading import Loaded
from edged.manifest import ArtefactEntry, Manifest
from edged.runtimes.base import Session
from edged.tensors import Array

GAIN = 1.1
"""What a lower precision must win for one row; a tenth is above what two races of one model differ
by, so that the choice is none of chance."""
RUNTIME_GAIN = 1.02
"""What a runtime must win over one that comes before it: two races of one session differ by as
much, and more than that is not to be given away."""
_ROWS = (1, 2, 4, 8, 16, 32)
_ROUNDS, _QUIET_ROUNDS = 9, 9
"""At least so many, and so many since any of them was faster than before: on a busy machine it
takes longer until each had a moment to itself."""
_CAP_NS = 4_000_000_000
"""For each that takes part, half of it for one row; once a device and release, while nothing waits
for it but the release itself. A device that does little else is done long before."""
_PAYS = 1.1
"""Where twice the rows bring nobody a tenth more rows a second, twice in a row, more of them need
not be tried."""
_WAIT_SHARE, _WAIT_NS = 10, 20_000
"""A run whose threads waited together for no more than a tenth of it was let run; being woken alone
takes some microseconds."""
_BYTES = 16 << 20
"""Inputs of a batch that is made only to be measured."""


Key = TypeVar("Key")
Waits = Callable[[Session], int]
"""Nanoseconds that the threads of a session have waited for a core, since they began."""


class Pair(NamedTuple):
    """One way to run a release: a model file, by its precision, on a runtime."""

    runtime: str
    precision: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Which model files to load, and on which runtimes.

    Args:
        runtimes: names, in order of preference.
        order: precisions, the best first; empty takes what the bundle has, as it lists it.
        pairs: where the device chose among runtimes, what may be loaded, the best first; then
            ``runtimes`` has them in that order, and for ``order`` counts what is here.
        why: what decided, for people; empty where there was nothing to choose.
        missed: what is out, with the reason: precisions, runtimes, or one on the other.
        is_strict: whether an operator named the precision, and no other may stand in.
        is_proven: whether it was seen to reproduce the golden samples in a process of its own.
    """

    runtimes: tuple[str, ...]
    order: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()
    why: str = ""
    missed: Mapping[str, str] = field(default_factory=dict)
    is_strict: bool = False
    is_proven: bool = False

    @property
    def first(self) -> tuple[str, str]:
        """The runtime and the precision that are to serve; an empty precision where any is."""
        if self.pairs:
            return self.pairs[0]
        return self.runtimes[0], self.order[0] if self.order else ""

    def pick(self, runtime: str, entries: Sequence[ArtefactEntry]) -> list[ArtefactEntry]:
        """The files to try on a runtime, in order; see ``loading.Pick``.

        Raises:
            IncompatibleError: none is left.
        """
        order = self.order
        if self.pairs:
            order = tuple(pair.precision for pair in self.pairs if pair.runtime == runtime)
        elif not order:
            return list(entries)
        found = [entry for want in order for entry in entries if entry.precision == want]
        if not found:
            have = ", ".join(entry.precision for entry in entries)
            wanted = " or ".join(order)
            hint = "; set models.NAME.precision to auto" if self.is_strict else ""
            raise IncompatibleError(f"the bundle has no {wanted} artefact; it has: {have}{hint}")
        return found


def choose(
    costs: Mapping[Pair, Costs], said: Mapping[Pair, str] | None = None
) -> tuple[tuple[Pair, ...], str]:
    """What wins, and the others behind it in case it cannot be had; and what decided, in words.

    Args:
        costs: what runs take, taken side by side: by precision as the bundle lists them, and of
            each by runtime, that which needs least of a reason first.
        said: what each is called; by default, by what tells them apart.
    """
    fastest: dict[str, Pair] = {}
    for pair in costs:
        held = fastest.setdefault(pair.precision, pair)
        if _time(costs[pair]) * RUNTIME_GAIN < _time(costs[held]):
            fastest[pair.precision] = pair
    best, *others = fastest.values()
    for pair in others:
        if _is_faster(costs[pair], costs[best]):
            best = pair
    same = [pair for pair in costs if pair.precision == best.precision and pair != best]
    same.sort(key=lambda pair: _time(costs[pair]))
    rest = [pair for pair in costs if pair.precision != best.precision]
    order = (best, *same, *rest)
    said = said or labels(costs)
    figures = "; ".join(f"{said[pair]} {_told(costs[pair])}" for pair in order)
    return order, f"{said[best]} won on this device: {figures}"


def labels(pairs: Collection[Pair]) -> dict[Pair, str]:
    """What tells pairs apart, in words: precisions, runtimes, or both."""
    if len({pair.runtime for pair in pairs}) < 2:
        return {pair: pair.precision for pair in pairs}
    if len({pair.precision for pair in pairs}) < 2:
        return {pair: pair.runtime for pair in pairs}
    return {pair: f"{pair.precision} on {pair.runtime}" for pair in pairs}


def _time(costs: Costs) -> float:
    """One row and the rows of a batch count alike: neither is known to be asked for more."""
    return math.sqrt(costs[0][1] * _best_row_ns(costs))


def _is_faster(one: Costs, other: Costs) -> bool:
    """Faster for one row by ``GAIN``, and no slower where batches pay most."""
    return one[0][1] * GAIN <= other[0][1] and _best_row_ns(one) <= _best_row_ns(other)


def _best_row_ns(costs: Costs) -> float:
    return min(run_ns / rows for rows, run_ns in costs)


def _told(costs: Costs) -> str:
    rows, run_ns = min(costs, key=lambda pair: pair[1] / pair[0])
    one = f"{costs[0][1] / 1e6:.3f} ms a row"
    return one if rows == 1 else f"{one}, {run_ns / 1e6:.3f} ms for {rows}"


def idle_engines(manifest: Manifest, loaded: Loaded, wanted: str | Sequence[str]) -> str:
    """That engines of the bundle do not run, and why; empty where it has none, or one runs.

    The ONNX files that engines are built from are no engines, and nobody expects them to run.

    Args:
        manifest: of the bundle.
        loaded: what serves.
        wanted: the model's list; where it is ``auto``, the choice says what is left out.
    """
    idle = [entry.file for entry in engines_of(manifest)]
    if not idle or loaded.runtime == "tensorrt" or isinstance(wanted, str):
        return ""
    place = f"models.{manifest.name}.runtime"
    why = f'{place} does not list "tensorrt"'
    if "tensorrt" in wanted:
        why = f'{place} has "tensorrt" after {loaded.runtime}'
    why = next((one.why for one in loaded.skipped if one.runtime == "tensorrt"), why)
    return f"not used: {', '.join(idle)}, because {why}; {loaded.runtime} runs the ONNX file"


def race(
    sessions: Mapping[Key, Session],
    sample: Mapping[str, Array],
    *,
    is_row_wise: bool,
    waits: Waits,
    disturbed: set[Key],
) -> dict[Key, Costs]:
    """Run sessions in turn, so that whatever else the machine does slows all of them down alike.

    Args:
        sessions: proven ones; nobody else uses them.
        sample: inputs of one row, or of one whole call.
        is_row_wise: whether rows may be stacked.
        waits: how long the threads of a session have waited for a core.
        disturbed: gets those that had no run of one row without such a wait.

    Returns:
        The fastest of some runs for each number of rows: a busy machine makes runs look slow,
        nothing makes them look fast.

    Raises:
        EdgedError: one of them fails with a single row.
    """
    began_ns, cap_ns = time.monotonic_ns(), _CAP_NS * len(sessions)
    costs: dict[Key, list[tuple[int, int]]] = {key: [] for key in sessions}
    row_bytes = sum(array.nbytes for array in sample.values())
    idle_steps = 0
    for rows in _ROWS if is_row_wise else (1,):
        if rows > 1 and rows * row_bytes > _BYTES:
            break
        batch = {name: np.repeat(array, rows, axis=0) for name, array in sample.items()}
        until_ns = began_ns + (cap_ns if rows > 1 else cap_ns // 2)
        try:
            if rows > 1:
                fastest = _rounds(sessions, batch, until_ns)
            else:
                disturbed |= set(sessions)
                fastest = _rounds(sessions, sample, until_ns, waits, disturbed)
        except EdgedError:
            if rows == 1:
                raise
            break
        for key, run_ns in fastest.items():
            costs[key].append((rows, run_ns))
        idle_steps = 0 if rows == 1 or any(map(_pays, costs.values())) else idle_steps + 1
        if idle_steps == 2 or time.monotonic_ns() > began_ns + cap_ns:
            break
    return {key: _plausible(pairs) for key, pairs in costs.items()}


def _pays(pairs: Sequence[tuple[int, int]]) -> bool:
    (rows, run_ns), (more, more_ns) = pairs[-2:]
    return more * run_ns > rows * more_ns * _PAYS


def _plausible(pairs: Sequence[tuple[int, int]]) -> Costs:
    """The same where fewer rows take no longer than more do, which only a disturbance can make."""
    told, least_ns = [], pairs[-1][1]
    for rows, run_ns in reversed(pairs):
        least_ns = min(least_ns, run_ns)
        told.append((rows, least_ns))
    return tuple(reversed(told))


def _rounds(
    sessions: Mapping[Key, Session],
    batch: Mapping[str, Array],
    until_ns: int,
    waits: Waits = lambda _: 0,
    disturbed: set[Key] | None = None,
) -> dict[Key, int]:
    """The fastest run of each; ``disturbed`` is a set that loses those that were let run once."""
    fastest: dict[Key, int] = {}
    disturbed = set() if disturbed is None else disturbed
    rounds = quiet = 0
    while rounds < _ROUNDS or quiet < _QUIET_ROUNDS or disturbed:
        quiet, rounds = quiet + 1, rounds + 1
        for key, session in sessions.items():
            waited_ns, before_ns = waits(session), time.monotonic_ns()
            session.run(batch)
            run_ns = max(time.monotonic_ns() - before_ns, 1)
            if waits(session) - waited_ns <= max(run_ns // _WAIT_SHARE, _WAIT_NS):
                disturbed.discard(key)
            if run_ns * RUNTIME_GAIN < fastest.get(key, math.inf):
                quiet = 0
            fastest[key] = min(run_ns, fastest.get(key, run_ns))
        if time.monotonic_ns() > until_ns:
            break
    return fastest
