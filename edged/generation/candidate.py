"""A configuration made concrete: its bundles verified and stored, its releases named.

Decides whether a configuration could be served, and says with file and line why not. Changes
nothing that serves: what it writes is the store, where entries are immutable.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from edged.checks.pinned import check_memory
from edged.checks.runtimes import check_runtimes
from edged.config.load import Snapshot, check_files
from edged.config.problems import Problem
from edged.errors import BundleError, EdgedError
from edged.generation.carried import Carried, Terms
from edged.generation.kept import (
    check_retired,
    in_store,
    releases_of,
    same_file,
    stored_before,
)
from edged.generation.release_checks import (
    check_name,
    check_releases,
    check_rollout,
    check_states,
    model_path,
)
from edged.generation.trusted import adopted, load_trust, load_trusted, may_serve_on
from edged.manifest import Manifest, ManifestOf
from edged.pipelines.build import plan_all
from edged.serving.manager import Desired
from edged.store.bundle import bundle_digest, read_manifest
from edged.store.floors import BelowFloorError, Floors
from edged.store.repository import Repository, StoredRelease
from edged.store.seen import SEEN, Glance, Look
from edged.store.targets import check_here, device_words
from edged.store.trust_state import Trusted
from edged.store.trust_store import RetiredKeyError
from edged.system.breath import breathe

if TYPE_CHECKING:
    from edged.pipelines.graph import Plan

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a configuration asks for.

    Args:
        snapshot: the configuration.
        releases: by model, each release that its bundles hold, ascending.
        problems: what stands in the way; empty when it can be served as a whole.
        broken: models and pipelines that cannot be served as asked, with the reason.
        plans: of the pipelines.
        trusted: the trust document that it goes by; None for keys of the configuration.
        retired: models that serve on under keys that were retired, with the reason.
        terms: by what its bundles were admitted; None where it came to none.
        looks: at their files, as far as they were known.
    """

    snapshot: Snapshot
    releases: Mapping[str, tuple[Desired, ...]]
    problems: tuple[Problem, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    plans: Mapping[str, Plan] = field(default_factory=dict)
    trusted: Trusted | None = None
    retired: Mapping[str, str] = field(default_factory=dict)
    terms: Terms | None = None
    looks: Mapping[Path, Look | None] = field(default_factory=dict, repr=False)

    def desired(self) -> list[Desired]:
        """All releases of all models."""
        return [item for items in self.releases.values() for item in items]


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """One bundle that was taken, and what was made of it."""

    digest: str
    manifest: Manifest
    content: T


def build_candidate(
    snapshot: Snapshot, repository: Repository, before: Candidate | None = None
) -> Candidate:
    """Verify and store every bundle that a configuration names.

    Runs on a thread: it reads and hashes whole bundles.

    Args:
        snapshot: the configuration.
        repository: the store.
        before: the one in effect; models of it that stand are not looked at anew.
    """
    repository.collector.rules = snapshot.config.store
    glance = Glance(SEEN)
    files = [*check_files(snapshot, glance.is_known), *about_runtimes(snapshot)]
    breathe()
    if snapshot.kept is not None:
        about = [one for name in snapshot.config.models for one in _about(name, files)]
        files = [one for one in files if one not in about]
    try:
        trusted, trust = adopted(snapshot, repository.state_dir)
    except EdgedError as exc:
        broken = dict.fromkeys(snapshot.config.models, exc.message)
        return Candidate(snapshot, {}, _with_trust(snapshot, files, exc), broken)
    terms = Terms(trust, device_words(snapshot.config.labels), repository.floors.now())
    taker = _Taker(repository, terms, glance)
    carried = Carried(before, snapshot, terms, glance, repository)
    releases, trouble, broken = _take_all(snapshot, taker, carried, files)
    problems = [*files, *trouble]
    breathe()
    manifests = {name: _numbered(items) for name, items in releases.items()}
    breathe()
    made = plan_all(snapshot, _manifests(snapshot, manifests))
    breathe()
    problems += [*made.problems, *_about_memory(snapshot, manifests)]
    broken |= made.broken
    return Candidate(
        snapshot,
        releases,
        tuple(problems),
        broken,
        made.plans,
        trusted,
        retired=taker.retired,
        terms=terms,
        looks=glance.looks,
    )


def _take_all(
    snapshot: Snapshot, taker: _Taker, carried: Carried, files: list[Problem]
) -> tuple[dict[str, tuple[Desired, ...]], list[Problem], dict[str, str]]:
    """By model its releases; what else is wrong; and which models that breaks."""
    releases: dict[str, tuple[Desired, ...]] = {}
    problems: list[Problem] = []
    broken: dict[str, str] = {}
    for name, config in snapshot.config.models.items():
        standing = carried.releases(name, config)
        if standing is not None:
            breathe()
            releases[name] = standing
            continue
        paths = releases_of(snapshot, name)
        how = taker.take if paths is None else partial(taker.take_kept, snapshot, name)
        found, trouble = _gather(snapshot, name, how, files, paths)
        items = sorted(found.items())
        taker.chose(name, config.serve, found)
        unfit = check_states(snapshot, name, {number: one.manifest for number, one in items})
        releases[name] = tuple(
            Desired(one.digest, one.content, config) for number, one in items if number not in unfit
        )
        problems += (trouble := [*trouble, *unfit.values()])
        reasons = [*_about(name, files), *trouble]
        if reasons or not found:
            broken[name] = reasons[0].message if reasons else "no bundle was found"
    return releases, problems, broken


class _Taker:
    """Takes a model's bundles into the store."""

    def __init__(self, repository: Repository, terms: Terms, glance: Glance) -> None:
        self._repository = repository
        self._trust, self._device, self._floors = terms.trust, terms.device, terms.floors
        self._glance = glance
        self._numbers: dict[str, int] = {}
        self.retired: dict[str, str] = {}

    def chose(self, name: str, serve: int | str, numbers: Collection[int]) -> None:
        """Of a model's releases one serves; what is only left over is not told of."""
        chosen = max(numbers, default=0) if serve == "newest" else serve
        if self._numbers.get(name) != chosen:
            self.retired.pop(name, None)

    def take(self, path: Path) -> Found[StoredRelease]:
        """A bundle's file."""
        try:
            look = self._glance.known(path)
            stored = self._repository.import_bundle(
                path, self._trust, self._device, look=look, floors=self._floors
            )
            self._glance.read(path)
        except RetiredKeyError as exc:
            stored = self._serving_on(stored_before(self._repository, exc), exc)
            self._glance.forget(path)  # it was let in by what serves now, which is another later
        return Found(stored.digest, stored.manifest, stored)

    def take_kept(self, snapshot: Snapshot, name: str, path: Path) -> Found[StoredRelease]:
        """One that a generation had, by its digest."""
        try:
            stored = in_store(self._repository, path.name)
        except EdgedError as exc:
            found = self.take(same_file(snapshot, name, path.name, exc))
            if found.digest != path.name:
                raise BundleError(
                    f"its file was exchanged for release {found.digest[:12]}"
                ) from exc
            return found
        try:
            stored.verify(self._trust)
        except RetiredKeyError as exc:
            stored = self._serving_on(stored, exc)
        check_here(stored.manifest, self._device)
        self._floors.check(stored.manifest, stored.digest)
        return Found(stored.digest, stored.manifest, stored)

    def _serving_on(self, stored: StoredRelease, exc: RetiredKeyError) -> StoredRelease:
        """Retired keys stop no model: what was trusted and serves goes on until it is changed."""
        if not may_serve_on(self._repository.state_dir, stored.manifest, stored.digest):
            raise exc
        check_here(stored.manifest, self._device)
        self._floors.check(stored.manifest, stored.digest)
        name, number = stored.manifest.name, stored.manifest.release
        self._numbers[name] = number
        self.retired[name] = f"release {number} is {exc.message}"
        return stored


def _numbered(items: Sequence[Desired]) -> dict[int, Manifest]:
    return {item.stored.manifest.release: item.stored.manifest for item in items}


def _manifests(snapshot: Snapshot, found: Mapping[str, Mapping[int, Manifest]]) -> ManifestOf:
    """By a model and a release or an alias, the manifest of what is to answer."""

    def manifest_of(model: str, selector: int | str | None) -> Manifest | None:
        numbers = found.get(model)
        if not numbers:
            return None
        config = snapshot.config.models[model]
        wanted = config.serve if selector is None else selector
        if isinstance(wanted, str):
            wanted = max(numbers) if wanted == "newest" else config.aliases.get(wanted, 0)
        return numbers.get(wanted)

    return manifest_of


def is_other_trust(candidate: Candidate, repository: Repository) -> bool:
    """Whether another trust document is in effect than a candidate was made by."""
    try:
        now = load_trusted(candidate.snapshot, repository.state_dir)
    except EdgedError:
        return False  # its file is in the digest
    return now != candidate.trusted


def inspect_bundles(
    snapshot: Snapshot,
    digests: dict[tuple[str, int], str] | None = None,
    state_dir: Path | None = None,
) -> tuple[dict[str, dict[int, Manifest]], list[Problem]]:
    """The same checks without a store: manifests and signatures only; for ``edged check``.

    Args:
        snapshot: the configuration.
        digests: gets that of each manifest, by model and release.
        state_dir: of the device; without it there are no floors.

    Returns:
        Manifests by model and release, and what is wrong.
    """
    files = [*check_files(snapshot), *about_runtimes(snapshot)]
    try:
        trust = load_trust(snapshot, state_dir)
    except EdgedError as exc:
        return {}, list(_with_trust(snapshot, files, exc))

    device = device_words(snapshot.config.labels)

    def take(path: Path) -> Found[Manifest]:
        data, manifest, signatures = read_manifest(path)
        try:
            trust.verify(data, signatures)
        except RetiredKeyError as exc:
            check_retired(state_dir, manifest, bundle_digest(data), exc)
        check_here(manifest, device)
        if state_dir is not None:
            Floors(state_dir).check(manifest, bundle_digest(data))
        return Found(bundle_digest(data), manifest, manifest)

    manifests: dict[str, dict[int, Manifest]] = {}
    problems = list(files)
    for name in snapshot.config.models:
        found, trouble = _gather(snapshot, name, take, files)
        manifests[name] = {release: one.content for release, one in sorted(found.items())}
        if digests is not None:
            digests |= {(name, release): one.digest for release, one in found.items()}
        problems += [*trouble, *check_states(snapshot, name, manifests[name]).values()]
    return manifests, [*problems, *_about_memory(snapshot, manifests)]


def about_runtimes(snapshot: Snapshot) -> list[Problem]:
    """The runtimes that models name and that are not there."""
    return [snapshot.problem(path, text) for path, text in check_runtimes(snapshot.config)]


def _about_memory(
    snapshot: Snapshot, manifests: Mapping[str, Mapping[int, Manifest]]
) -> list[Problem]:
    found = check_memory(snapshot.config, manifests)
    return [snapshot.problem(path, text) for path, text in found]


def inspect_pipelines(
    snapshot: Snapshot, manifests: Mapping[str, Mapping[int, Manifest]]
) -> tuple[ManifestOf, tuple[Problem, ...]]:
    """Plan the pipelines over bundles that were inspected.

    Returns:
        The manifest of what is to answer, for models and pipelines; and what is wrong.
    """
    manifest_of = _manifests(snapshot, manifests)
    made = plan_all(snapshot, manifest_of)

    def also_of_pipelines(name: str, selector: int | str | None) -> Manifest | None:
        plan = made.plans.get(name)
        if plan is None or selector not in (None, plan.config.release):
            return manifest_of(name, selector) if name in snapshot.config.models else None
        from edged.pipelines.describe import describe  # noqa: PLC0415 - with the first pipeline

        return describe(plan)

    return also_of_pipelines, made.problems


def _gather(
    snapshot: Snapshot,
    name: str,
    take: Callable[[Path], Found[T]],
    files: list[Problem],
    paths: Sequence[Path] | None = None,
) -> tuple[dict[int, Found[T]], list[Problem]]:
    """Take every bundle of a model; what is in ``files`` already is not said twice."""
    bundle_path = model_path(name, "bundle")
    said = _about(name, files)
    found: dict[int, Found[T]] = {}
    problems: list[Problem] = []
    low: list[Problem] = []
    for path in snapshot.bundle_paths(name) if paths is None else paths:
        breathe()
        try:
            one = take(path)
            check_name(one.manifest, name)
            _check_conflict(one, found)
        except (BelowFloorError, RetiredKeyError) as exc:
            # Lies there from before that changed; a fault only if somebody wants it.
            low.append(snapshot.problem(bundle_path, f"{path.name}: {exc.message}"))
        except (EdgedError, OSError) as exc:
            reason = exc.message if isinstance(exc, EdgedError) else exc.strerror or str(exc)
            if not any(str(path) in problem.message for problem in said):
                problems.append(snapshot.problem(bundle_path, f"{path.name}: {reason}"))
        else:
            found[one.manifest.release] = one
    if paths is not None and not paths:
        problems.append(snapshot.problem(bundle_path, "the generation served no release of it"))
    if found:
        problems += check_releases(snapshot, name, snapshot.config.models[name], set(found))
        problems += check_rollout(snapshot, name, {n: one.manifest for n, one in found.items()})
    return found, [*problems, *low] if problems or not found else []


def _about(name: str, files: list[Problem]) -> list[Problem]:
    """The problems of one model's bundle files."""
    if not files:  # as nearly always, and asked of hundreds
        return []
    path = model_path(name, "bundle")
    return [one for one in files if one.path == path or one.path.startswith(f"{path}[")]


def _with_trust(snapshot: Snapshot, files: list[Problem], error: EdgedError) -> tuple[Problem, ...]:
    if any(problem.path.startswith(("trust.keys", "trust.root")) for problem in files):
        return tuple(files)
    path = "trust.keys" if snapshot.config.trust.root is None else "trust.root"
    return (*files, snapshot.problem(path, error.message))


def _check_conflict(one: Found[T], found: Mapping[int, Found[T]]) -> None:
    release = one.manifest.release
    if release in found and found[release].digest != one.digest:
        raise BundleError(f"release {release} is in another bundle too, with other contents")
