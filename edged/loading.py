"""From a stored release to a session that is proven: load, replay the golden samples, measure.

Runs on the loader's thread and touches nothing that serves. What it finds wrong is raised; what it
measures belongs to this device and is not written back to the bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from edged.comparing import compare
from edged.costs import Costs, costs_of
from edged.engines.packed import engines_of, fitting
from edged.errors import DeviceLostError, EdgedError, IncompatibleError, LoadError
from edged.manifest import ArtefactEntry, Golden, Manifest, Tolerance
from edged.rows import first_row, row_axes
from edged.runtimes.base import Artefact, Runtime, Session
from edged.runtimes.registry import kinds_of, problem_of
from edged.runtimes.tensorrt_host import this_host
from edged.store.stored import Stored
from edged.strings import blank
from edged.tensors import Array, TensorSpec


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


Known = Callable[[str, str], Costs | None]
"""By a runtime's name and a precision, what was measured before; None asks for measuring, empty for
none of it."""

Pick = Callable[[str, Sequence[ArtefactEntry]], Sequence[ArtefactEntry]]
"""By a runtime's name, which of the model files that it could take are to be tried, best first."""


class Skipped(NamedTuple):
    """A runtime of a model's list that did not take it.

    Args:
        runtime: which one.
        why: it did not.
        may_change: whether it might take these very bytes another time.
    """

    runtime: str
    why: str
    may_change: bool = True


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
        skipped: the runtimes that were to be preferred, best first.
    """

    session: Session
    runtime: str
    costs: Costs
    precision: str = "float32"
    missed: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    footprint: Footprint = _NO_FOOTPRINT
    skipped: tuple[Skipped, ...] = ()

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
    pick: Pick = lambda _name, entries: entries,
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
    skipped: list[Skipped] = []
    missed: dict[str, str] = {}
    wrong: EdgedError | None = None
    for name in preference:
        try:
            entries = pick(name, entries_for(manifest, name))
        except EdgedError as exc:
            skipped.append(Skipped(name, exc.message, not isinstance(exc, IncompatibleError)))
            continue
        problems: list[str] = []
        for entry in entries:
            what = f"{entry.precision}: " if len(entries) > 1 else ""
            try:
                session = open_artefact(stored, create_runtime(name), entry)
            except EdgedError as exc:
                problems.append(what + exc.message)
                missed[entry.precision] = exc.message
                continue
            if wrong is None:
                on_loaded()
            try:
                costs = _warmed(session, stored, entry, known(name, entry.precision))
            except DeviceLostError as exc:
                problems.append(what + exc.message)
            except EdgedError as exc:
                wrong, missed[entry.precision] = exc, exc.message
            else:
                missed.pop(entry.precision, None)
                return Loaded(session, name, costs, entry.precision, missed, skipped=(*skipped,))
        if wrong is not None:
            # It runs and is wrong: another runtime is no remedy for that.
            raise wrong
        skipped.append(Skipped(name, "; ".join(problems)))
    raise _refused(manifest, skipped)


def _warmed(session: Session, stored: Stored, entry: ArtefactEntry, known: Costs | None) -> Costs:
    """``warm``; a session that raises there is closed."""
    manifest = stored.manifest
    try:
        return warm(session, manifest, stored.golden(entry), known, manifest.golden_of(entry))
    except BaseException:
        session.close()
        raise


def _refused(manifest: Manifest, skipped: Sequence[Skipped]) -> LoadError:
    words = "; ".join(f"{one.runtime}: {one.why}" for one in skipped)
    return LoadError(f'model "{manifest.name}" release {manifest.release}: {words}')


def entries_for(manifest: Manifest, runtime: str) -> list[ArtefactEntry]:
    """The model files that a runtime takes, as the bundle lists them; of two kinds the better.

    Of engines only those that were built for this machine, which is asked.

    Raises:
        IncompatibleError: there is none.
        LoadError: the runtime is not there, so that nobody knows what it takes.
    """
    if runtime == "tensorrt" and engines_of(manifest):
        return fitting(manifest, this_host())
    found = _entries(manifest, runtime)
    if not found:
        if not (kinds := kinds_of(runtime)):
            raise LoadError(problem_of(runtime))
        kind = "engine" if runtime == "tensorrt" else f"{kinds[-1]} artefact"
        have = ", ".join(sorted({entry.runtime for entry in manifest.artefacts}))
        raise IncompatibleError(f"the bundle has no {kind}; it has: {have}")
    return found


def find_entries(manifest: Manifest, runtime: str) -> list[ArtefactEntry]:
    """The same where none is an answer too."""
    try:
        return entries_for(manifest, runtime)
    except EdgedError:
        return []


def _entries(manifest: Manifest, runtime: str) -> list[ArtefactEntry]:
    if runtime == "tensorrt":
        return engines_of(manifest)
    kinds = kinds_of(runtime)
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
    # A bundle may hold engines of one precision for several machines: the file says which.
    is_engine = entry.runtime == "tensorrt"
    return Artefact(
        manifest.name,
        stored.read_member(entry.file)
        if is_engine
        else stored.artefact(entry.runtime, entry.precision),
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
    return costs_of(session, sample, known, axes)


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
    return blank(spec, shape)
