"""Whether the releases that a model's section asks for are among those that its bundles hold.

Pure but for the place of each problem; ``candidate.py`` has the bundles.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from edged.config.load import Snapshot
from edged.config.problems import Problem, field_path
from edged.config.schema import ModelConfig
from edged.errors import BundleError, FieldError
from edged.manifest import Manifest
from edged.rollout.fit import unfit
from edged.serving.sequences.states import plan_states


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


def check_rollout(
    snapshot: Snapshot, name: str, manifests: Mapping[int, Manifest]
) -> list[Problem]:
    """Whether the releases of a model's rollout are there and may stand for one another."""
    section = snapshot.config.models[name].rollout
    if section is None:
        return []
    path = model_path(name, "rollout")
    return [snapshot.problem(f"{path}.{field}", text) for field, text in unfit(section, manifests)]


def check_states(
    snapshot: Snapshot, name: str, manifests: Mapping[int, Manifest]
) -> dict[int, Problem]:
    """By release, why its bundle has not the states that the model's section names."""
    section = snapshot.config.models[name].sequence
    problems: dict[int, Problem] = {}
    if section is None:
        return problems
    for number, manifest in manifests.items():
        try:
            plan_states(manifest, section)
        except FieldError as exc:
            path, field = model_path(name, "sequence"), exc.path.removeprefix("state")
            problems[number] = snapshot.problem(
                f"{path}.state{field}", f"release {number}: {exc.reason}"
            )
    return problems


@functools.lru_cache(4096)
def model_path(name: str, field: str) -> str:
    """The path of one field of a model."""
    return field_path(field_path("models", name), field)


def check_name(manifest: Manifest, name: str) -> None:
    """Refuse a bundle of another model; raises BundleError."""
    if manifest.name != name:
        raise BundleError(
            f'holds model "{manifest.name}", not "{name}"; rename the model in the configuration '
            f"or convert it again with --name {name}"
        )
