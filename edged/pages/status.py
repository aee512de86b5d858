"""What the daemon says about itself: plain documents for the CLI, the socket and the broker.

Reads the parts, changes none.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, cast

import msgspec

from edged.config.identity import node_name
from edged.errors import EdgedError, InvalidRequestError, ModelNotFoundError
from edged.generation.reload import Reloader
from edged.manifest import Manifest, canonical_json
from edged.pages.hosted import workers
from edged.runtimes.registry import computed_in
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.lifecycle import State
from edged.serving.manager import Manager
from edged.serving.release import ServedRelease
from edged.serving.router import Route, choose_release
from edged.serving.scheduling.precedence import CLASSES
from edged.serving.scheduling.slots import DeviceSlots
from edged.serving.served import Served
from edged.telemetry.health import Health
from edged.telemetry.process import resident_bytes
from edged.transports.native.uds import UnixServer
from edged.version import __version__

if TYPE_CHECKING:
    from edged.pipelines.graph import Member
    from edged.pipelines.pipeline import PipelineRelease


def status_line(ready: int, table: ServingTable, links: str, degraded: Collection[str]) -> str:
    """A few words for the service manager.

    Args:
        ready: how many models answer.
        table: what serves.
        links: of the brokers; empty where there are none.
        degraded: what is not as it should be.
    """
    parts = [f"{ready} of {len(table.routes)} models ready", f"generation {table.generation}"]
    parts += [links] if links else []
    parts += [f"degraded: {', '.join(sorted(degraded))}"] if degraded else []
    return ", ".join(parts)


def socket_document(server: UnixServer) -> dict[str, Any]:
    """Of the native protocol's socket, for the status."""
    return {
        "path": server.path,
        "connections": len(server.connections),
        "accepted": server.accepted,
        "refused": server.refused,
        "requests": server.requests,
    }


def is_ready(dataplane: Dataplane) -> bool:
    """Whether every model declared required would be answered."""
    return not unready(dataplane)


def unready(dataplane: Dataplane) -> dict[str, str]:
    """What keeps the daemon from being ready: the required models, and why; empty when it is.

    The words are those that a request would be answered with: fit for any peer, without paths.
    """
    if dataplane.is_draining:
        return {"edged": "the daemon is stopping"}
    if dataplane.table.generation == 0:
        return {"edged": "the daemon is starting"}
    reasons = {}
    for name, route in dataplane.table.routes.items():
        # What an administrator took away on purpose is no trouble of the daemon.
        if route.required and not route.is_dismissed:
            try:
                choose_release(route, None)
            except EdgedError as exc:
                reasons[name] = exc.message
    return reasons


def status_document(
    *,
    node: str,
    started: float,
    reloader: Reloader,
    dataplane: Dataplane,
    manager: Manager,
    health: Health,
    links: dict[str, Any] | None,
    socket: dict[str, Any],
    metrics: str = "",
) -> dict[str, Any]:
    """Everything ``edged status`` shows.

    Args:
        node: the node's name.
        started: monotonic seconds at start.
        reloader: the configuration in effect and how the last change went.
        dataplane: the table.
        manager: every release, also those that only finish.
        health: what is degraded.
        links: the broker's side; None without one.
        socket: the Unix socket's side.
        metrics: where figures and health can be read over HTTP; empty for nowhere.
    """
    now_ns = time.monotonic_ns()
    return {
        "edged": __version__,
        "node": node,
        "pid": os.getpid(),
        "uptime_s": round(time.monotonic() - started, 3),
        "rss_bytes": resident_bytes(),
        "live": True,
        "ready": is_ready(dataplane),
        "not_ready": unready(dataplane),
        "generation": dataplane.table.generation,
        "config": _config(reloader),
        "trust": reloader.trust_document(),
        "degradations": health.degradations(),
        "degraded_for_s": {
            key: round(age_ns / 1e9, 1) for key, age_ns in health.ages_ns(now_ns).items()
        },
        "models": [_route_line(route) for route in dataplane.table.routes.values()],
        "devices": [device_document(name, slots) for name, slots in manager.devices.items()],
        "releases": [
            *(release_document(release) for release in manager.releases()),
            *(release_document(pipeline) for pipeline in pipelines(dataplane)),
        ],
        "memory": manager.memories.as_dict(),
        **_kept(manager),
        "refused": dataplane.refused,
        "socket": socket,
        "metrics": metrics,
        "mqtt": links,
    }


def info_document(reloader: Reloader, dataplane: Dataplane, health: Health) -> dict[str, Any]:
    """What the broker is told of this daemon."""
    limits = reloader.config.limits
    return {
        "edged": __version__,
        "node": node_name(reloader.config),
        "generation": dataplane.table.generation,
        "config_digest": reloader.digest,
        "config_applied": reloader.report.applied,
        "ready": is_ready(dataplane),
        # Names only: the sentences may hold paths, and whoever reads the broker reads this.
        "degraded": sorted(health.degradations()),
        "max_request_bytes": int(limits.max_request),
    }


def manifest_text(dataplane: Dataplane, arguments: dict[str, Any]) -> str:
    """The manifest of a release, as canonical JSON.

    Args:
        dataplane: the table.
        arguments: ``model``, and ``release`` for another than the one that answers.

    Raises:
        EdgedError: there is no such model or release.
    """
    model, release = str(arguments.get("model")), arguments.get("release")
    if release is not None and not isinstance(release, int | str):
        raise InvalidRequestError("release: expected a number or an alias")
    route = dataplane.table.routes.get(model)
    if route is None:
        raise ModelNotFoundError(
            f'no model "{model[:64]}" is configured; see which there are: edged models'
        )
    return canonical_json(choose_release(route, release).manifest).decode("ascii")


def reload_document(reloader: Reloader, dataplane: Dataplane) -> dict[str, Any]:
    """The part of the status that tells how a reload went.

    Whoever waits for one asks again and again: the whole of hundreds of models takes so long that
    requests wait for it.
    """
    return {
        "pid": os.getpid(),
        "generation": dataplane.table.generation,
        "config": _config(reloader),
    }


def _config(reloader: Reloader) -> dict[str, Any]:
    """What is in effect, and how the last look at the files went."""
    report = reloader.report
    return {
        "digest": reloader.digest,
        "applied": report.applied,
        "at": report.at,
        "problems": list(report.problems),
        # Of looks at the files: the last that was begun, and the one that this came from.
        "begun": reloader.begun,
        "looked": report.number,
        "window_left_s": reloader.window_left_s,
        "unnoted": reloader.unnoted,
        "went_back": reloader.went_back,
    }


def _kept(manager: Manager) -> dict[str, Any]:
    """What is kept beside the models, and the processes that they live in."""
    return {
        "caches": {name: cache.as_dict() for name, cache in manager.workshop.caches.items()},
        "sequences": {name: one.as_dict() for name, one in manager.shelves.items()},
        "rollouts": manager.rollouts.as_list(),
        "workers": [one.as_dict() for one in workers(manager.releases())],
    }


def pipelines(dataplane: Dataplane) -> list[PipelineRelease]:
    """Every pipeline that the table has."""
    found = [one for route in dataplane.table.routes.values() for one in route.releases.values()]
    return [one for one in map(_as_pipeline, found) if one is not None]


def members_of(route: Route) -> list[Member]:
    """The models that a pipeline asks, of those releases; none for a model."""
    found = [_as_pipeline(release) for release in route.releases.values()]
    return [member for one in found if one is not None for member in one.plan.members]


def _as_pipeline(release: Served) -> PipelineRelease | None:
    """It, when it is no release of a model; their module is imported with the first pipeline."""
    return None if isinstance(release, ServedRelease) else cast("PipelineRelease", release)


def models_document(dataplane: Dataplane) -> list[dict[str, Any]]:
    """Every model with its releases and signature."""
    return [_model(route, release_document) for route in dataplane.table.routes.values()]


def announced_models(dataplane: Dataplane) -> list[dict[str, Any]]:
    """What devices are told of the models: what they are, not what they have done."""
    return [_model(route, _announced) for route in dataplane.table.routes.values()]


def _announced(release: Served) -> dict[str, Any]:
    # In and out of memory goes too often to be told, and nobody who asks need know.
    is_asleep = release.told_state == State.ASLEEP.value
    return {
        **_identity(release),
        "state": State.READY.value if is_asleep else release.told_state,
        "reason": "" if is_asleep else release.reason,
        "runtime": release.runtime,
    }


def release_document(release: Served) -> dict[str, Any]:
    """One release: where it is in its life, and what it has done; of a pipeline also each step."""
    steps: dict[str, Any] = {}
    if (pipeline := _as_pipeline(release)) is not None:
        steps = {"stream": list(pipeline.plan.config.stream), "steps": pipeline.tally.as_list()}
        if pipeline.plan.streamed is not None:
            steps["streams"] = pipeline.tally.streams.as_dict()
    return {
        "model": release.key.model,
        **_identity(release),
        "state": release.told_state,
        "reason": release.reason,
        "runtime": release.runtime,
        "precision": release.precision,
        "computes_in": computed_in(release.runtime),
        "choice": release.choice,
        "priority": CLASSES[release.rank],
        "inline": release.is_inline and release.session is not None,
        "worker_pid": release.worker_pid,
        "typical_run_us": round(release.typical_run_ns / 1000, 1),
        "run_us_by_rows": {str(rows): round(ns / 1000, 1) for rows, ns in release.costs},
        "batch_rows": release.batch_rows,
        "instances": release.instances,
        "in_flight": release.in_flight,
        "queue_rows": release.backlog.rows,
        "queue_bytes": release.backlog.size_bytes,
        **(_model_only(release) if isinstance(release, ServedRelease) else {}),
        **release.counters.as_dict(),
        **steps,
    }


def _identity(release: Served) -> dict[str, Any]:
    return {
        "release": release.number,
        "version": release.manifest.version,
        "digest": release.key.digest,
    }


def _model_only(release: ServedRelease) -> dict[str, Any]:
    found, placed = release.stand_in, release.placed
    return {
        "nodes": None if placed is None else placed.as_dict(),
        "runtime_fallback": None if found is None else found.as_dict(time.monotonic_ns()),
        "memory": memory_document(release),
    }


def memory_document(release: ServedRelease) -> dict[str, Any]:
    """Whether a release is in memory, and what it takes there."""
    footprint = release.footprint
    return {
        "resident": release.session is not None,
        "bytes": footprint.held if footprint is not None else None,
        "loading_bytes": footprint.peak if footprint is not None else None,
        "pinned": release.config.memory.pinned,
        "loads": release.loads,
        "evictions": release.evictions,
    }


def device_document(name: str, slots: DeviceSlots) -> dict[str, Any]:
    """One device: its slots, who has them, and how often a class had to wait for one."""
    return {
        "device": name,
        "slots": slots.rules.slots,
        "policy": "strict" if slots.rules.weights is None else "weighted",
        "taken": dict(zip(CLASSES, slots.held.by_rank, strict=True)),
        "waiting": slots.waiting,
        "waits": dict(zip(CLASSES, slots.waits, strict=True)),
    }


def _route_line(route: Route) -> dict[str, Any]:
    serving = route.default_release()
    return {
        "name": route.model,
        "ready": serving is not None,
        "serving": serving.number if serving is not None else None,
        "fallback": serving is not None and serving is route.fallback,
        "required": route.required,
        "aliases": dict(route.aliases),
    }


def _model(route: Route, tell: Callable[[Served], dict[str, Any]]) -> dict[str, Any]:
    serving = route.default_release()
    releases = [*route.releases.values()]
    if route.fallback is not None:
        releases.append(route.fallback)
    shown = serving or (releases[0] if releases else None)
    return {
        **_route_line(route),
        "releases": [tell(release) for release in releases],
        **(_signature(shown.manifest) if shown is not None else {}),
    }


def _signature(manifest: Manifest) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(
        {
            "inputs": manifest.inputs,
            "outputs": manifest.outputs,
            "input_processing": manifest.input_processing,
            "output_processing": manifest.output_processing,
        }
    )
    return document
