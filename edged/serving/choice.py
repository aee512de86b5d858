"""Which of a bundle's precisions serves: the faster one on this very device.

Decides by figures alone. A lower precision has to earn its place: it costs accuracy, if only inside
a budget, so that a tie goes to the file that the bundle lists first. ``race`` takes the figures.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edged.costs import Costs
from edged.errors import EdgedError, IncompatibleError
from edged.manifest import ArtefactEntry, Manifest
from edged.runtimes.base import Session
from edged.tensors import Array

GAIN = 1.1
"""What a lower precision must win for one row; a tenth is above what two races of one model differ
by, so that the choice is none of chance."""
_ROWS = (1, 2, 4, 8, 16, 32)
_ROUNDS = 9
_CAP_NS = 2_000_000_000
"""Once a device and release, while nothing waits for it but the release itself."""
_BYTES = 16 << 20
"""Inputs of a batch that is made only to be measured."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which model files to load.

    Args:
        order: precisions, the best first; empty takes what the bundle has, as it lists it.
        why: what decided, for people; empty where there was nothing to choose.
        missed: precisions that are out, with the reason.
        is_strict: whether an operator named the precision, and no other may stand in.
    """

    order: tuple[str, ...] = ()
    why: str = ""
    missed: Mapping[str, str] = field(default_factory=dict)
    is_strict: bool = False

    def pick(self, entries: Sequence[ArtefactEntry]) -> list[ArtefactEntry]:
        """The files to try, in order; see ``loading.Pick``.

        Raises:
            IncompatibleError: none is left.
        """
        if not self.order:
            return list(entries)
        found = [entry for want in self.order for entry in entries if entry.precision == want]
        if not found:
            have = ", ".join(entry.precision for entry in entries)
            wanted = " or ".join(self.order)
            hint = "; set models.NAME.precision to auto" if self.is_strict else ""
            raise IncompatibleError(f"the bundle has no {wanted} artefact; it has: {have}{hint}")
        return found


def choose(costs: Mapping[str, Costs]) -> Choice:
    """The precision that wins, and the others behind it in case it cannot be had.

    Args:
        costs: what runs take, by precision, as the bundle lists them; taken side by side.
    """
    best, *others = costs
    for precision in others:
        if _is_faster(costs[precision], costs[best]):
            best = precision
    order = (best, *(precision for precision in costs if precision != best))
    figures = "; ".join(f"{precision} {_told(costs[precision])}" for precision in order)
    return Choice(order, f"{best} won on this device: {figures}")


def _is_faster(one: Costs, other: Costs) -> bool:
    """Faster for one row by ``GAIN``, and no slower where batches pay most."""
    return one[0][1] * GAIN <= other[0][1] and _best_row_ns(one) <= _best_row_ns(other)


def _best_row_ns(costs: Costs) -> float:
    return min(run_ns / rows for rows, run_ns in costs)


def _told(costs: Costs) -> str:
    rows, run_ns = min(costs, key=lambda pair: pair[1] / pair[0])
    one = f"{costs[0][1] / 1e6:.3f} ms a row"
    return one if rows == 1 else f"{one}, {run_ns / 1e6:.3f} ms for {rows}"


def idle_engines(manifest: Manifest, runtime: str) -> str:
    """That engines of the bundle do not run, and why; empty where it has none.

    The ONNX files that engines are built from are no engines, and nobody expects them to run.
    """
    engines = {member.name for member in manifest.members if member.type == "tensorrt"}
    idle = [entry.file for entry in manifest.artefacts if entry.file in engines]
    if not idle:
        return ""
    return (
        f"not used: {', '.join(idle)}, because this edged runs no TensorRT engines yet; {runtime} "
        "runs the ONNX file"
    )


def race(
    sessions: Mapping[str, Session], sample: Mapping[str, Array], *, is_row_wise: bool
) -> dict[str, Costs]:
    """Run sessions in turn, so that whatever else the machine does slows all of them down alike.

    Args:
        sessions: proven ones, by precision; nobody else uses them.
        sample: inputs of one row, or of one whole call.
        is_row_wise: whether rows may be stacked.

    Returns:
        The fastest of some runs for each number of rows: a busy machine makes runs look slow,
        nothing makes them look fast.

    Raises:
        EdgedError: one of them fails with a single row.
    """
    until_ns = time.monotonic_ns() + _CAP_NS
    costs: dict[str, list[tuple[int, int]]] = {precision: [] for precision in sessions}
    row_bytes = sum(array.nbytes for array in sample.values())
    for rows in _ROWS if is_row_wise else (1,):
        if rows > 1 and rows * row_bytes > _BYTES:
            break
        batch = {name: np.repeat(array, rows, axis=0) for name, array in sample.items()}
        try:
            fastest = _rounds(sessions, batch if rows > 1 else sample, until_ns)
        except EdgedError:
            if rows == 1:
                raise
            break
        for precision, run_ns in fastest.items():
            costs[precision].append((rows, run_ns))
        if time.monotonic_ns() > until_ns:
            break
    return {precision: tuple(pairs) for precision, pairs in costs.items()}


def _rounds(
    sessions: Mapping[str, Session], batch: Mapping[str, Array], until_ns: int
) -> dict[str, int]:
    fastest: dict[str, int] = {}
    for _ in range(_ROUNDS):
        for precision, session in sessions.items():
            before_ns = time.monotonic_ns()
            session.run(batch)
            run_ns = max(time.monotonic_ns() - before_ns, 1)
            fastest[precision] = min(run_ns, fastest.get(precision, run_ns))
        if time.monotonic_ns() > until_ns:
            break
    return fastest
