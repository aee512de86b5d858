"""From a stored release to a session that is proven: load, replay the golden samples, measure.

Runs on the loader's thread and touches nothing that serves. What it finds wrong is raised; what it
measures belongs to this device and is not written back to the bundle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from edged.comparing import compare
from edged.errors import EdgedError, IncompatibleError, LoadError
from edged.manifest import ArtefactEntry, Golden, Manifest, Tolerance
from edged.rows import Axes, first_row, repeat_row, row_axes
from edged.runtimes.base import Artefact, Runtime, Session
from edged.runtimes.registry import ARTEFACT_KINDS
from edged.tensors import Array, TensorSpec

_MEASURE_RUNS = 7
_MEASURE_CAP_NS = 200_000_000
"""Enough runs for a median of a fast model; a slow one shows itself in the first. The cap is for
all sizes of a batch together: a start must not wait long for what only a full queue will use."""
_MEASURE_ROWS = (1, 2, 4, 8, 16, 32)
_MEASURE_BYTES = 16 << 20
"""Inputs of a batch that is made only to be measured; 32 camera frames would take a gigabyte."""
_NO_GAIN = 1.1
"""Where twice the rows bring less than a tenth more rows a second, twice as many again will not."""
_LOOK_RUNS, _LOOK_CAP_NS = 3, 20_000_000
_FASTER = 1.5
"""A busy machine makes runs look slow, nothing makes them look fast: what was measured before is
believed unless a short look finds one row so much faster."""


class Stored(Protocol):
    """The part of a stored release that loading needs."""

    @property
    def manifest(self) -> Manifest:
        """What the bundle promises."""
        ...

    def artefact(self, runtime: str, precision: str = "") -> bytes:
        """The verified bytes of the artefact for a runtime, of the first or of one precision."""
        ...

    def sidecars(self, entry: ArtefactEntry) -> dict[str, bytes]:
        """The verified files that an artefact keeps weights in, by name."""
        ...

    def golden(
        self, entry: ArtefactEntry | None = None
    ) -> tuple[dict[str, Array], dict[str, Array]] | None:
        """Sample inputs and their expected outputs; those of one model file, or the bundle's."""
        ...


class Footprint(NamedTuple):
    """Bytes that a release takes, as upper bounds.

    Args:
        peak: at most, while it loads.
        held: once it is loaded.
        load_ns: what its last load took; 0 while it has had none.
        is_measured: whether it was seen; else it is what its files let one fear.
    """

    peak: int
    held: int
    load_ns: int = 0
    is_measured: bool = False


_NO_FOOTPRINT = Footprint(0, 0)

Costs = tuple[tuple[int, int], ...]
"""Pairs of rows and nanoseconds of a run, rows ascending; measured on this device."""

Known = Callable[[str, str], Costs | None]
"""By a runtime's name and a precision, what was measured before; None asks for measuring, empty for
none of it."""

Pick = Callable[[Sequence[ArtefactEntry]], Sequence[ArtefactEntry]]
"""Which of the model files that a runtime could take are to be tried, the best first."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A session that reproduced what its bundle promises.

    Args:
        session: ready to run.
        runtime: the runtime's name.
        costs: what a run takes by its rows; the first is that of one row.
        precision: of the model file.
        missed: precisions that were to be preferred and could not be had, with the reason.
        why: what decided for this precision, and what of the bundle is not used, for people; empty
            where there was nothing to choose.
        footprint: the memory that it takes.
    """

    session: Session
    runtime: str
    costs: Costs
    precision: str = "float32"
    missed: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    footprint: Footprint = _NO_FOOTPRINT

    @property
    def typical_run_ns(self) -> int:
        """Median time of a run with one row, nanoseconds; 0 where it was not asked for."""
        return self.costs[0][1] if self.costs else 0


def load_release(
    stored: Stored,
    preference: Sequence[str],
    create_runtime: Callable[[str], Runtime],
    on_loaded: Callable[[], None],
    known: Known = lambda _name, _precision: None,
    *,
    pick: Pick = lambda entries: entries,
) -> Loaded:
    """Load a release on the first runtime of ``preference`` that takes it, and prove it.

    Of several model files for a runtime the next is tried when one fails; one is open at a time.

    Args:
        stored: the verified bundle.
        preference: runtime names, best first.
        create_runtime: makes a runtime by name.
        on_loaded: called once, between loading and warming.
        known: what runs took when they were measured before.
        pick: which model files to try, and in which order.

    Raises:
        LoadError: no runtime took it; the message has each one's reason.
        GoldenMismatchError: it runs, and gives other numbers than promised.
    """
    manifest = stored.manifest
    problems: list[str] = []
    missed: dict[str, str] = {}
    wrong: EdgedError | None = None
    for name in preference:
        try:
            entries = pick(entries_for(manifest, name))
        except EdgedError as exc:
            problems.append(f"{name}: {exc.message}")
            continue
        for entry in entries:
            what = f"{name} {entry.precision}" if len(entries) > 1 else name
            try:
                session = open_artefact(stored, create_runtime(name), entry)
            except EdgedError as exc:
                problems.append(f"{what}: {exc.message}")
                missed[entry.precision] = exc.message
                continue
            if wrong is None:
                on_loaded()
            try:
                before, promised = known(name, entry.precision), manifest.golden_of(entry)
                costs = warm(session, manifest, stored.golden(entry), before, promised)
            except BaseException as exc:
                session.close()
                if not isinstance(exc, EdgedError):
                    raise
                wrong, missed[entry.precision] = exc, exc.message
                continue
            missed.pop(entry.precision, None)
            return Loaded(session, name, costs, entry.precision, missed)
        if wrong is not None:
            # It runs and is wrong: another runtime is no remedy for that.
            raise wrong
    raise LoadError(f'model "{manifest.name}" release {manifest.release}: {"; ".join(problems)}')


def entries_for(manifest: Manifest, runtime: str) -> list[ArtefactEntry]:
    """The model files that a runtime takes, as the bundle lists them; of two kinds the better.

    Raises:
        IncompatibleError: there is none.
    """
    found = find_entries(manifest, runtime)
    if not found:
        kind = ARTEFACT_KINDS[runtime][-1]
        have = ", ".join(sorted({entry.runtime for entry in manifest.artefacts}))
        raise IncompatibleError(f"the bundle has no {kind} artefact; it has: {have}")
    return found


def find_entries(manifest: Manifest, runtime: str) -> list[ArtefactEntry]:
    """The same where none is an answer too."""
    kinds = ARTEFACT_KINDS[runtime]
    found = [entry for entry in manifest.artefacts if entry.runtime in kinds]
    own = {entry.precision for entry in found if entry.runtime == kinds[0]}
    return [one for one in found if one.runtime == kinds[0] or one.precision not in own]


def open_artefact(stored: Stored, runtime: Runtime, entry: ArtefactEntry) -> Session:
    """Load one model file, and prove nothing.

    Raises:
        LoadError: the runtime did not take it.
    """
    info = runtime.info()
    if info.problem:
        raise LoadError(info.problem)
    return runtime.load(artefact_of(stored, entry))


def artefact_of(stored: Stored, entry: ArtefactEntry) -> Artefact:
    """One model file as runtimes take it; reads and verifies it."""
    manifest = stored.manifest
    return Artefact(
        manifest.name,
        stored.artefact(entry.runtime, entry.precision),
        manifest.input_specs(),
        manifest.output_specs(),
        stored.sidecars(entry),
    )


Samples = tuple[Mapping[str, Array], Mapping[str, Array]]
"""Golden inputs and the answers to them."""


def warm(
    session: Session,
    manifest: Manifest,
    golden: Samples | None,
    known: Costs | None = None,
    promised: Golden | None = None,
) -> Costs:
    """Run the golden samples, compare, and measure what is not known.

    Returns:
        What runs take; of one row only (or one whole call) where rows cannot be stacked.
    """
    sample, axes = prove(session, manifest, golden, promised), row_axes(manifest)
    if axes is not None and golden is not None and not manifest.is_row_wise:
        sample = first_row(sample, axes)
        try:
            compare(
                session.run(sample), first_row(golden[1], axes), _tolerances(manifest, promised), ""
            )
        except EdgedError:  # then its rows belong together, whatever the axis is called
            sample, axes = golden[0], None
    return _costs(session, sample, known, axes)


def prove(
    session: Session,
    manifest: Manifest,
    golden: Samples | None,
    promised: Golden | None = None,
) -> Mapping[str, Array]:
    """Hold a session against golden samples, where there are any.

    Args:
        session: of one model file.
        manifest: of the bundle.
        golden: inputs, and the answers to them.
        promised: the tolerances of those answers; None for the bundle's own.

    Returns:
        Inputs of one row, or of one whole call.

    Raises:
        GoldenMismatchError: it gives other numbers than promised.
    """
    owner = f'model "{manifest.name}" release {manifest.release}'
    if golden is None:
        sample = {spec.name: _zeros(spec) for spec in manifest.input_specs()}
        session.run(sample)
        return sample
    inputs, expected = golden
    tolerances = _tolerances(manifest, promised)
    compare(session.run(inputs), expected, tolerances, owner)
    if not manifest.is_row_wise:
        return inputs
    # One row alone must give what it gave among the others, or batching would change answers.
    sample = {name: array[:1] for name, array in inputs.items()}
    first = {name: array[:1] for name, array in expected.items()}
    compare(session.run(sample), first, tolerances, owner)
    return sample


def _tolerances(manifest: Manifest, promised: Golden | None) -> Mapping[str, Tolerance]:
    golden = promised or manifest.golden
    return golden.tolerances if golden else {}


def _zeros(spec: TensorSpec) -> Array:
    shape = [1 if isinstance(axis, str) else axis for axis in spec.shape]
    return np.zeros(shape, dtype=spec.dtype)


def _costs(
    session: Session, sample: Mapping[str, Array], known: Costs | None, axes: Axes | None
) -> Costs:
    """What is known, if it still holds, or else what is measured now."""
    if known is not None:
        if not known:
            return known
        until_ns = time.monotonic_ns() + _LOOK_CAP_NS
        run_ns, _ = _median_run_ns(session, sample, until_ns, _LOOK_RUNS)
        if run_ns * _FASTER >= known[0][1]:
            return known
    costs = _measure(session, sample, axes)
    # The machine may have become busy after the look: then the old figure is still the better one.
    return known if known and known[0][1] < costs[0][1] else costs


def _measure(session: Session, sample: Mapping[str, Array], axes: Axes | None) -> Costs:
    """Measure one row, then twice as many as long as that pays and the time allows."""
    until_ns = time.monotonic_ns() + _MEASURE_CAP_NS
    costs: list[tuple[int, int]] = []
    idle_steps = 0
    row_bytes = sum(array.nbytes for array in sample.values())
    for rows in _MEASURE_ROWS if axes is not None else (1,):
        if rows > 1 and rows * row_bytes > _MEASURE_BYTES:
            break
        batch = sample if rows == 1 or axes is None else repeat_row(sample, axes, rows)
        try:
            run_ns, is_over = _median_run_ns(session, batch, until_ns)
        except EdgedError:
            if rows == 1:
                raise
            # It promised that rows may share a run, and does not take so many: they go alone.
            return tuple(costs[:1])
        costs.append((rows, run_ns))
        if len(costs) > 1:
            gain = rows * costs[-2][1] / (costs[-2][0] * max(run_ns, 1))
            # One step without a gain may be noise; two are a model that batching does nothing for.
            idle_steps = idle_steps + 1 if gain < _NO_GAIN else 0
        if is_over or idle_steps == 2:
            break
    return tuple(costs)


def _median_run_ns(
    session: Session, batch: Mapping[str, Array], until_ns: int, runs: int = _MEASURE_RUNS
) -> tuple[int, bool]:
    """The median of so many runs, or of fewer; and whether the time was over before that."""
    times: list[int] = []
    while len(times) < runs:
        before_ns = time.monotonic_ns()
        session.run(batch)
        after_ns = time.monotonic_ns()
        times.append(after_ns - before_ns)
        if after_ns > until_ns:
            break
    return sorted(times)[len(times) // 2], len(times) < runs
