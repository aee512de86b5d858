"""From a configuration to pipelines that serve: planned with what the bundles promise, then routed.

Decides what is a problem of the configuration, and what is only not ready yet. The planner and
the kinds of steps are imported with the first pipeline: most devices need not give memory to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edged.config.pipeline import PipelineConfig
from edged.config.problems import Problem
from edged.config.snapshot import Snapshot
from edged.manifest import Manifest, ManifestOf
from edged.serving.router import Route
from edged.serving.served import Served
from edged.serving.workshop import Workshop

if TYPE_CHECKING:
    from edged.pipelines.graph import Member, Plan
    from edged.pipelines.step import Work


@dataclass(frozen=True, slots=True)
class Plans:
    """What became of a configuration's pipelines.

    Args:
        plans: of those that could be planned.
        problems: of the others; none where only a model's bundle is missing.
        broken: by name, why there is no plan.
    """

    plans: Mapping[str, Plan]
    problems: tuple[Problem, ...]
    broken: Mapping[str, str]


def plan_all(snapshot: Snapshot, manifest_of: ManifestOf) -> Plans:
    """Plan every pipeline of a configuration.

    Args:
        snapshot: the configuration.
        manifest_of: the manifest of the release that is to answer for a model.
    """
    plans: dict[str, Plan] = {}
    problems: list[Problem] = []
    broken: dict[str, str] = {}
    for name, config in snapshot.config.pipelines.items():
        from edged.pipelines.plan import plan_pipeline  # noqa: PLC0415 - with the first pipeline

        plan, found = plan_pipeline(name, config, manifest_of, snapshot.resolve)
        problems += [snapshot.problem(path, text) for path, text in found]
        if found:
            broken[name] = str(problems[-len(found)])
        elif plan is not None and _is_whole(plan, config):
            plans[name] = plan
        else:
            broken[name] = "the bundle of one of its models could not be taken"
    return Plans(plans, tuple(problems), broken)


def _is_whole(plan: Plan, config: PipelineConfig) -> bool:
    return len(plan.nodes) == len(config.steps) and len(plan.results) == len(config.outputs)


def pipeline_routes(
    snapshot: Snapshot, plans: Mapping[str, Plan], routes: Mapping[str, Route], workshop: Workshop
) -> dict[str, Route]:
    """A route for every pipeline, by the models' routes of the same generation."""
    made: dict[str, Route] = {}
    for name, config in snapshot.config.pipelines.items():
        from edged.pipelines.pipeline import PipelineRelease  # noqa: PLC0415 - as above

        plan = plans.get(name) or _plan_with(snapshot, name, config, _serving(routes))
        releases: dict[int, Served] = {}
        if not isinstance(plan, str):
            replan = _replanner(snapshot, name, plan)
            release = PipelineRelease(plan, routes, workshop, replan)
            releases[release.number] = release
        made[name] = Route(name, releases, required=config.required)
    return made


def _serving(routes: Mapping[str, Route]) -> ManifestOf:
    def manifest_of(model: str, selector: int | str | None) -> Manifest | None:
        route = routes[model]
        if selector is None:
            release = route.default_release()
        else:
            number = route.aliases.get(selector) if isinstance(selector, str) else selector
            release = route.releases.get(number or 0)
        return release.manifest if release is not None else None

    return manifest_of


def _replanner(
    snapshot: Snapshot, name: str, plan: Plan
) -> Callable[[Mapping[Member, Served]], Plan | str]:
    """Plans it for other releases, with the files of its steps as they were taken then.

    Their files may have changed since, into something that a reload has refused.
    """
    from edged.pipelines.graph import Member  # noqa: PLC0415 - as above

    works = {node.name: node.work for node in plan.nodes if node.work is not None}
    for step in plan.config.steps:
        if step.labels is not None and not step.labels.file:
            works.pop(step.name, None)  # those of the release's bundle

    def replan(found: Mapping[Member, Served]) -> Plan | str:
        def manifest_of(model: str, selector: int | str | None) -> Manifest | None:
            return found[Member(model, selector)].manifest

        return _plan_with(snapshot, name, plan.config, manifest_of, works)

    return replan


def _plan_with(
    snapshot: Snapshot,
    name: str,
    config: PipelineConfig,
    manifest_of: ManifestOf,
    made: Mapping[str, Work] | None = None,
) -> Plan | str:
    from edged.pipelines.plan import plan_pipeline  # noqa: PLC0415 - as above

    plan, found = plan_pipeline(name, config, manifest_of, snapshot.resolve, made)
    if found:
        return str(snapshot.problem(*found[0]))
    return plan if plan is not None and _is_whole(plan, config) else "a model is not there"
