"""A configuration made concrete: its bundles verified and stored, its releases named.

Decides whether a configuration could be served, and says with file and line why not. Changes
nothing that serves: what it writes is the store, where entries are immutable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edged.config.load import Snapshot, check_files
from edged.config.problems import Problem, field_path
from edged.config.schema import ModelConfig
from edged.errors import BundleError, EdgedError
from edged.manifest import Manifest
from edged.serving.manager import Desired
from edged.store.bundle import read_manifest
from edged.store.repository import Repository
from edged.store.signing import TrustStore


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a configuration asks for.

    Args:
        snapshot: the configuration.
        releases: by model, each release that its bundles hold, ascending.
        problems: what stands in the way; empty when it can be served as a whole.
        broken: models that cannot be served as asked, with the reason.
    """

    snapshot: Snapshot
    releases: Mapping[str, tuple[Desired, ...]]
    problems: tuple[Problem, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)

    def desired(self) -> list[Desired]:
        """All releases of all models."""
        return [item for items in self.releases.values() for item in items]


def load_trust(snapshot: Snapshot) -> TrustStore:
    """The operator's keys.

    Raises:
        EdgedError: a key file is missing or not an Ed25519 public key.
    """
    trust = snapshot.config.trust
    paths = [snapshot.resolve(key) for key in trust.keys]
    return TrustStore.from_files(paths, trust.threshold, trust.require_signatures)


def build_candidate(snapshot: Snapshot, repository: Repository) -> Candidate:
    """Verify and store every bundle that a configuration names.

    Runs on a thread: it reads and hashes whole bundles.
    """
    problems = list(check_files(snapshot))
    try:
        trust = load_trust(snapshot)
    except EdgedError as exc:
        problems.append(snapshot.problem("trust.keys", exc.message))
        broken = dict.fromkeys(snapshot.config.models, exc.message)
        return Candidate(snapshot, {}, tuple(problems), broken)
    releases: dict[str, tuple[Desired, ...]] = {}
    broken = {}
    for name, config in snapshot.config.models.items():
        found, trouble = _import_model(snapshot, name, config, repository, trust)
        releases[name] = tuple(sorted(found, key=lambda item: item.stored.manifest.release))
        problems += trouble
        if trouble or not found:
            broken[name] = trouble[0].message if trouble else "no bundle was found"
    return Candidate(snapshot, releases, tuple(problems), broken)


def _import_model(
    snapshot: Snapshot,
    name: str,
    config: ModelConfig,
    repository: Repository,
    trust: TrustStore,
) -> tuple[list[Desired], list[Problem]]:
    bundle_path = model_path(name, "bundle")
    found: dict[int, Desired] = {}
    problems: list[Problem] = []
    for path in snapshot.bundle_paths(name):
        try:
            stored = repository.import_bundle(path, trust)
            _check_name(stored.manifest, name)
        except EdgedError as exc:
            problems.append(snapshot.problem(bundle_path, f"{path.name}: {exc.message}"))
            continue
        except OSError as exc:
            reason = exc.strerror or str(exc)
            problems.append(snapshot.problem(bundle_path, f"{path.name}: {reason}"))
            continue
        release = stored.manifest.release
        if release in found and found[release].digest != stored.digest:
            problems.append(
                snapshot.problem(
                    bundle_path,
                    f"{path.name}: release {release} is in another bundle too, with other contents",
                )
            )
            continue
        found[release] = Desired(stored.digest, stored, config)
    problems += check_releases(snapshot, name, config, set(found))
    return list(found.values()), problems


def check_releases(
    snapshot: Snapshot, name: str, config: ModelConfig, releases: set[int]
) -> list[Problem]:
    """Whether ``serve`` and the aliases name releases that are there."""
    have = ", ".join(str(number) for number in sorted(releases)) or "none"
    problems = []
    wanted = {
        field_path(model_path(name, "aliases"), alias): number
        for alias, number in config.aliases.items()
    }
    if config.serve != "newest":
        wanted[model_path(name, "serve")] = config.serve
    for path, number in wanted.items():
        if number not in releases:
            message = f"release {number} is in none of the bundles; they hold: {have}"
            problems.append(snapshot.problem(path, message))
    return problems


def inspect_bundles(snapshot: Snapshot) -> tuple[dict[str, dict[int, Manifest]], list[Problem]]:
    """The same checks without a store: manifests and signatures only; for ``edged check``.

    Returns:
        Manifests by model and release, and what is wrong.
    """
    problems = list(check_files(snapshot))
    manifests: dict[str, dict[int, Manifest]] = {}
    try:
        trust = load_trust(snapshot)
    except EdgedError as exc:
        return {}, [*problems, snapshot.problem("trust.keys", exc.message)]
    for name, config in snapshot.config.models.items():
        found = manifests.setdefault(name, {})
        for path in snapshot.bundle_paths(name):
            try:
                data, manifest, signatures = read_manifest(path)
                trust.verify(data, signatures)
                _check_name(manifest, name)
            except (EdgedError, OSError) as exc:
                text = exc.message if isinstance(exc, EdgedError) else str(exc)
                problem = snapshot.problem(model_path(name, "bundle"), f"{path.name}: {text}")
                problems.append(problem)
            else:
                found[manifest.release] = manifest
        if found:
            problems += check_releases(snapshot, name, config, set(found))
    return manifests, problems


def model_path(name: str, field: str) -> str:
    """The path of one field of a model."""
    return field_path(field_path("models", name), field)


def _check_name(manifest: Manifest, name: str) -> None:
    if manifest.name != name:
        raise BundleError(
            f'holds model "{manifest.name}", not "{name}"; rename the model in the configuration '
            f"or convert it again with --name {name}"
        )
