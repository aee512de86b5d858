"""A candidate as a serving table: routes, what is wrong with them, and what they promise.

Pure: looks at the candidate and at the releases' states, changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from edged.config.problems import Problem
from edged.config.schema import Config
from edged.generation.candidate import Candidate
from edged.generation.release_checks import model_path
from edged.pipelines.build import pipeline_routes
from edged.serving.dataplane import ServingTable
from edged.serving.lifecycle import ReleaseKey, State
from edged.serving.manager import Desired, Manager
from edged.serving.router import Route

NEEDS_RESTART = (
    "state_dir",
    "runtime.threads",
    "limits.inline_threshold",
    "memory.cuda",
    "reload.watch",
    "reload.settle",
    "reload.poll",
)
"""Settings of things that exist once in a process."""


def build_route(
    candidate: Candidate, name: str, manager: Manager, fallback: Desired | None = None
) -> Route:
    """How one model's requests find a release."""
    config = candidate.snapshot.config.models[name]
    items = candidate.releases.get(name, ())
    releases = {item.stored.manifest.release: manager.get(item.key) for item in items}
    return Route(
        name,
        releases,
        config.serve,
        config.aliases,
        config.required,
        manager.get(fallback.key) if fallback is not None else None,
        manager.rollouts.of(name, config.rollout, releases),
    )


def build_table(
    candidate: Candidate,
    manager: Manager,
    generation: int,
    fallbacks: Mapping[str, Desired] | None = None,
) -> ServingTable:
    """Every model's route under one generation number."""
    return table_of(
        candidate,
        manager,
        generation,
        {
            name: build_route(candidate, name, manager, (fallbacks or {}).get(name))
            for name in candidate.snapshot.config.models
        },
    )


def table_of(
    candidate: Candidate, manager: Manager, generation: int, routes: dict[str, Route]
) -> ServingTable:
    """Routes that were built, and those of the pipelines over them."""
    snapshot = candidate.snapshot
    routes |= pipeline_routes(snapshot, candidate.plans, routes, manager.workshop)
    rollouts = {name: one.rollout for name, one in routes.items() if one.rollout is not None}
    return ServingTable(generation, routes, rollouts)


def failed_problems(
    candidate: Candidate, manager: Manager, new: set[ReleaseKey]
) -> tuple[Problem, ...]:
    """Releases that came with this candidate and could not be loaded.

    A release that had failed before is no reason to refuse a change to something else.
    """
    problems = []
    # Of hundreds few are new, and whoever asks meanwhile waits for this loop.
    for key in [item.key for item in candidate.desired() if item.key in new] if new else ():
        release = manager.get(key)
        if release.state is State.FAILED:
            path = model_path(key.model, "bundle")
            problems.append(candidate.snapshot.problem(path, release.reason))
    return tuple(problems)


def trouble_of(route: Route, broken: str) -> str:
    """One sentence when a model is not as it was asked for; empty when it is.

    Args:
        route: of the model.
        broken: why its bundles could not be taken, if so.
    """
    reasons = [
        f"release {release.number} {release.state.value}: {release.reason}"
        for release in route.releases.values()
        if release.state is State.FAILED
    ]
    if broken:
        reasons.append(broken)
    serving = route.default_release()
    if serving is None and route.is_dismissed:
        return f"an administrator unloaded it; edged load {route.model} brings it back"
    if serving is None:
        return "; ".join(reasons) or "no release is ready"
    if serving is route.fallback:
        why = "; ".join(reasons) or "no release that is asked for is ready"
        return f"release {serving.number} (the last good one) serves; {why}"
    return "; ".join(reasons)


def restart_changes(boot: Config, now: Config) -> list[str]:
    """Changed settings that take effect only after a restart."""
    return [path for path in NEEDS_RESTART if _at(boot, path) != _at(now, path)]


def _at(config: Config, path: str) -> object:
    found: object = config
    for name in path.split("."):
        found = getattr(found, name)
    return found
