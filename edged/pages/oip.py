"""What the Open Inference Protocol says of the server and its models, in the words of its clients.

Pure but for one look at the table: nothing here waits. Versions are release numbers. A model's
configuration is told as Triton would write it, so that tools which plan by it find what they need.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edged.config.schema import Config
from edged.errors import ModelNotFoundError
from edged.pages.probes import Probes
from edged.pages.status import unready
from edged.protocol.http_get import Request
from edged.serving.dataplane import Dataplane
from edged.serving.lifecycle import State
from edged.serving.release import ServedRelease
from edged.serving.router import Route, choose_release
from edged.serving.served import Served
from edged.tensors import ALL_DTYPES, TensorSpec
from edged.version import __version__

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "sequence",
    "statistics",
)
"""What is served of the protocol beyond its base; of the repository its index alone."""
_CONFIG_NAMES = {"string": "TYPE_STRING"}
"""A configuration has a name of its own for BYTES."""
_STATES = {
    State.READY: "READY",
    State.ASLEEP: "READY",  # it answers, after a load
    State.LOADING: "LOADING",
    State.WARMING: "LOADING",
    State.DRAINING: "UNLOADING",
}


class OipPages:
    """The pages.

    Args:
        dataplane: what is served.
        probes: the figures.
        config: the one in force; asked each time.
    """

    def __init__(self, dataplane: Dataplane, probes: Probes, config: Callable[[], Config]) -> None:
        self._dataplane = dataplane
        self._probes = probes
        self._config = config

    def server(self) -> dict[str, Any]:
        """Name, version and what is served of the protocol."""
        http = self._config().listen.http
        name = http.server_name if http is not None else "edged"
        return {"name": name, "version": __version__, "extensions": EXTENSIONS}

    def unready(self) -> Mapping[str, str]:
        """Why the server is not ready; empty when it is."""
        return unready(self._dataplane)

    def model(self, name: str, version: str | None) -> dict[str, Any]:
        """A model's signature; -1 stands for a free axis.

        Raises:
            EdgedError: there is no such model or version, or it is not ready.
        """
        route, release = self._find(name, version)
        ready = [str(one.number) for one in _releases(route) if one.answers]
        return {
            "name": name,
            "versions": ready if version is None else [version],
            "platform": _platform(release),
            "inputs": [_tensor(spec) for spec in release.inputs],
            "outputs": [_tensor(spec) for spec in release.outputs],
        }

    def model_ready(self, name: str, version: str | None) -> dict[str, Any]:
        """That a model is ready; raises as ``model`` when it is not."""
        self._find(name, version)
        return {"name": name, "ready": True}

    def config(self, name: str, version: str | None) -> dict[str, Any]:
        """A model's configuration in Triton's words; raises as ``model``."""
        _, release = self._find(name, version)
        is_batched = release.manifest.is_row_wise
        specs = release.inputs, release.outputs
        inputs, outputs = ([_config_tensor(spec, is_batched) for spec in side] for side in specs)
        document: dict[str, Any] = {
            "name": name,
            "platform": _platform(release),
            "backend": release.runtime,
            "version_policy": {"latest": {"num_versions": 1}},
            "max_batch_size": _most_rows(release) if is_batched else 0,
            "input": inputs,
            "output": outputs,
            "instance_group": [
                {"name": name, "kind": "KIND_CPU", "count": release.instances},
            ],
            "model_transaction_policy": {"decoupled": False},
        }
        if is_batched:
            document["dynamic_batching"] = {
                "preferred_batch_size": [release.batch_rows],
                "max_queue_delay_microseconds": _delay_us(release),
            }
        if release.is_stateful:
            document["sequence_batching"] = {}
        if release.cache is not None:
            document["response_cache"] = {"enable": True}
        return document

    def statistics(self, name: str | None, version: str | None) -> dict[str, Any]:
        """What one model has done, or each; raises as ``model`` for one that does not answer."""
        if name is None:
            routes = self._dataplane.table.routes.values()
            found = [one for route in routes for one in _releases(route) if one.answers]
        elif version is None:
            found = [one for one in _releases(self._find(name, None)[0]) if one.answers]
        else:
            found = [self._find(name, version)[1]]
        return {"model_stats": [_statistics(release) for release in found]}

    def index(self, *, ready: bool) -> list[dict[str, Any]]:
        """Every release of every model with its state; those that answer alone when asked."""
        entries = []
        for route in self._dataplane.table.routes.values():
            for release in _releases(route):
                if ready and not release.answers:
                    continue
                state = _STATES.get(release.state, "UNAVAILABLE")
                if release.is_dismissed:
                    state = "UNLOADING" if release.state is State.READY else "UNAVAILABLE"
                entry = {"name": route.model, "version": str(release.number), "state": state}
                if state == "UNAVAILABLE":
                    reason = release.reason if not release.is_dismissed else ""
                    entry["reason"] = reason or release.told_state
                entries.append(entry)
            if not _releases(route) and not ready:
                entries.append({"name": route.model})
        return entries

    def labels(self, name: str, release: int) -> dict[str, Sequence[str]]:
        """Names of the classes by output, where the bundle has some."""
        manifest = self._dataplane.manifest(name, release)
        if manifest is None:
            return {}
        return {key: one.labels for key, one in manifest.output_processing.items() if one.labels}

    def inputs(self, name: str, version: str | None) -> Sequence[TensorSpec]:
        """The inputs of who would answer; raises as ``model``."""
        return self._find(name, version)[1].inputs

    def makes_text(self, name: str, version: str | None) -> bool:
        """Whether who would answer makes texts; raises as ``model``."""
        return self._find(name, version)[1].manifest.makes_texts

    async def metrics(self, accept: str) -> tuple[int, bytes, str]:
        """All figures: status, text and its type."""
        reply = await self._probes.metrics(Request("/metrics", accept))
        return reply.status, reply.body, reply.content_type

    def _find(self, name: str, version: str | None) -> tuple[Route, Served]:
        route = self._dataplane.table.routes.get(name)
        if route is None:
            raise ModelNotFoundError(f'no model "{name[:64]}" is configured')
        return route, choose_release(route, None if version is None else int(version))


def _releases(route: Route) -> list[Served]:
    found = list(route.releases.values())
    if route.fallback is not None and route.fallback.number not in route.releases:
        found.append(route.fallback)
    return found


def _most_rows(release: Served) -> int:
    """Of one run; requests of more rows run in parts where they can."""
    return release.most_rows if release.most_rows < sys.maxsize else release.batch_rows


def _delay_us(release: Served) -> int:
    if not isinstance(release, ServedRelease):
        return 0
    return int(release.config.batching.max_queue_delay) // 1000


def _platform(release: Served) -> str:
    return (
        f"{release.runtime}_onnx" if release.runtime.startswith("onnxruntime") else release.runtime
    )


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    shape = [axis if isinstance(axis, int) else -1 for axis in spec.shape]
    return {"name": spec.name, "datatype": ALL_DTYPES[spec.dtype].oip, "shape": shape}


def _config_tensor(spec: TensorSpec, is_batched: bool) -> dict[str, Any]:
    axes = spec.shape[1:] if is_batched else spec.shape
    return {
        "name": spec.name,
        "data_type": _CONFIG_NAMES.get(spec.dtype) or f"TYPE_{ALL_DTYPES[spec.dtype].oip}",
        "dims": [axis if isinstance(axis, int) else -1 for axis in axes],
    }


def _statistics(release: Served) -> dict[str, Any]:
    counters = release.counters
    requests, failures = counters.requests, counters.failures
    good = requests - failures
    ran = good - counters.cached
    nothing = {"count": ran, "ns": 0}  # copies in and out are part of a run here
    return {
        "name": release.key.model,
        "version": str(release.number),
        "last_inference": counters.last_ns // 1_000_000,
        "inference_count": counters.rows,
        "execution_count": counters.batches,
        "inference_stats": {
            "success": {"count": good, "ns": counters.duration_ns},
            "fail": {"count": failures, "ns": 0},
            "queue": {"count": good, "ns": counters.queue_ns},
            "compute_input": nothing,
            "compute_infer": {"count": ran, "ns": counters.run_ns},
            "compute_output": nothing,
            "cache_hit": {"count": counters.cached, "ns": 0},
            "cache_miss": {"count": ran if release.cache is not None else 0, "ns": 0},
        },
        "response_stats": {},
        "batch_stats": [],
        "memory_usage": [],
    }
