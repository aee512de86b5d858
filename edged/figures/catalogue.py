"""The catalogue of what the daemon measures, and where each figure is read.

Reads the parts, changes none, and counts nothing itself but how reloads ended. Labels hold names
from the configuration and words of ours only: no peer can make a new series.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from edged.broker.figures import BROKER_FIGURES, add_broker
from edged.figures.rollouts import ROLLOUT_FIGURES, add_rollouts
from edged.figures.supply import SUPPLY_FIGURES, add_supply
from edged.generation.reload import Reloader
from edged.generation.reload_tally import ReloadTally
from edged.pages.hosted import workers
from edged.pages.status import is_ready, pipelines
from edged.serving.dataplane import Dataplane
from edged.serving.lifecycle import State
from edged.serving.manager import Manager
from edged.serving.release import ServedRelease
from edged.serving.scheduling.precedence import RANKS
from edged.serving.scheduling.slots import DeviceSlots
from edged.serving.sequences.open_sequences import OpenSequences
from edged.serving.served import Served
from edged.telemetry.exposition import Family, Figure, Kind, Times, Value, merged
from edged.telemetry.health import Health
from edged.telemetry.process import ProcessFigures, read_process
from edged.version import __version__

if TYPE_CHECKING:
    from edged.pipelines.pipeline import PipelineRelease

_RELEASE = ("model", "release")
_STEP = (*_RELEASE, "step")
_C, _F, _G, _H, _I = Kind.COUNTER, Kind.FLAG, Kind.GAUGE, Kind.HISTOGRAM, Kind.INFO
_WANTED = ("wanted", "runtime")
_TOLD = ("version", "digest", "runtime")

FIGURES: tuple[Figure, ...] = (
    Figure("edged_build", _I, "Version of edged and of Python.", ("version", "python")),
    Figure("edged_ready", _F, "1 when every model declared required would be answered."),
    Figure("edged_degraded", _F, "1 for each thing that is not as it should be.", ("key",)),
    Figure("edged_generation", _G, "Generation of the configuration in effect."),
    Figure("edged_config_digest", _I, "Digest of the configuration in effect.", ("digest",)),
    Figure("edged_config_last_reload_success", _F, "1 when the files are what is in effect."),
    Figure("edged_config_last_reload_timestamp_seconds", _G, "When the files were last tried."),
    Figure("edged_reloads", _C, "Reloads by how they ended.", ("outcome",)),
    Figure("edged_model_ready", _F, "1 when the model would be answered.", ("model", "required")),
    Figure("edged_model_serving_release", _G, "Release that answers by default.", ("model",)),
    Figure("edged_release", _I, "What each release is.", (*_RELEASE, *_TOLD)),
    Figure("edged_release_state", _F, "1 for the state each release is in.", (*_RELEASE, "state")),
    Figure("edged_release_loads", _C, "Loads that were begun.", _RELEASE),
    Figure(
        "edged_release_runtime_fallback", _F,
        "1 while it serves on another runtime than the first of its list.", (*_RELEASE, *_WANTED),
    ),
    Figure("edged_runtime_fallbacks", _C, "How often that came about.", (*_RELEASE, *_WANTED)),
    Figure("edged_device_losses", _C, "Devices lost during a run.", (*_RELEASE, "runtime")),
    Figure("edged_runtime_returns", _C, "Loads that were to end it.", (*_RELEASE, "outcome")),
    Figure("edged_release_cpu_nodes", _G, "Nodes that a GPU left to the processor.", _RELEASE),
    Figure("edged_release_resident", _F, "1 while it is in memory.", _RELEASE),
    Figure("edged_release_memory_bytes", _G, "Memory it takes when loaded, at most.", _RELEASE),
    Figure(
        "edged_release_worker_memory_bytes", _G,
        "Its share of what its worker process has to itself.", _RELEASE,
    ),
    Figure("edged_shared_worker_deaths", _C, "Deaths of a device's worker.", ("device",)),
    Figure("edged_release_evictions", _C, "Times it was sent out of memory.", _RELEASE),
    Figure("edged_memory_budget_bytes", _G, "Memory that loaded models may take.", ("device",)),
    Figure("edged_memory_promised_bytes", _G, "Memory of those in it, at most.", ("device",)),
    Figure("edged_release_load_failures", _C, "Loads and trials that failed.", _RELEASE),
    Figure("edged_requests", _C, "Answers, errors among them.", (*_RELEASE, "transport")),
    Figure("edged_request_failures", _C, "Answers that were an error.", (*_RELEASE, "code")),
    Figure(
        "edged_requests_refused", _C, "Requests that reached no queue; no model: unknown name.",
        ("model", "transport", "code"),
    ),
    Figure("edged_requests_in_flight", _G, "Requests taken and not answered yet.", _RELEASE),
    Figure("edged_request_duration_seconds", _H, "From taken to answered.", _RELEASE),
    Figure("edged_queue_duration_seconds", _H, "A request's wait for its turn.", _RELEASE),
    Figure("edged_queue_rows", _G, "Rows that wait.", _RELEASE),
    Figure("edged_queue_bytes", _G, "Bytes of the tensors that wait.", _RELEASE),
    Figure("edged_run_duration_seconds", _H, "A batch's time in the runtime.", _RELEASE),
    Figure("edged_rows", _C, "Rows that were run.", _RELEASE),
    Figure("edged_batches", _C, "Batches: inline, off_loop or worker.", (*_RELEASE, "where")),
    Figure("edged_cache_hits", _C, "Answers that were kept from before.", ("model",)),
    Figure("edged_cache_joined", _C, "Answers that shared another one's run.", ("model",)),
    Figure("edged_cache_misses", _C, "Runs that were asked for through a cache.", ("model",)),
    Figure("edged_cache_evicted", _C, "Answers given up for others.", ("model",)),
    Figure("edged_cache_answers", _G, "Answers that are kept.", ("model",)),
    Figure("edged_cache_bytes", _G, "Memory that they take.", ("model",)),
    Figure("edged_cache_size_bytes", _G, "Memory that they may take.", ("model",)),
    Figure("edged_device_slots", _G, "Runs that a device has slots for.", ("device",)),
    Figure("edged_device_slots_taken", _G, "Slots that runs have.", ("device", "priority")),
    Figure("edged_device_waiting", _G, "Models that wait for a slot.", ("device",)),
    Figure(
        "edged_device_waits", _C, "How often a model had to wait for one.", ("device", "priority")
    ),
    Figure("edged_step_duration_seconds", _H, "A pipeline step, waiting included.", _STEP),
    Figure("edged_steps_skipped", _C, "Steps whose condition did not hold.", _STEP),
    Figure("edged_step_failures", _C, "Steps that ended a request with an error.", _STEP),
    Figure("edged_streams", _C, "Requests that are answered for each item.", _RELEASE),
    Figure("edged_stream_answers", _C, "Answers they got, the last left out.", _RELEASE),
    Figure("edged_stream_first_answer_seconds", _H, "From taken to the first.", _RELEASE),
    Figure("edged_sequences_open", _G, "Sequences that have a state.", ("model",)),
    Figure("edged_sequence_state_bytes", _G, "What their states take.", ("model",)),
    Figure("edged_sequences_begun", _C, "Sequences that were begun.", ("model",)),
    Figure(
        "edged_sequences_closed", _C, "And how they ended: ended, evicted, timed_out, lost.",
        ("model", "outcome"),
    ),
    Figure("edged_engine_builds", _G, "Engines that models want, by where they are.", ("state",)),
    Figure("edged_engine_builds_ended", _C, "And how builds ended.", ("outcome",)),
    Figure("edged_engine_cache_refused", _C, "Kept engines that were thrown out.", ("reason",)),
    Figure("edged_connections", _G, "Open connections.", ("listener",)),
    Figure("edged_connections_accepted", _C, "Connections taken.", ("listener",)),
    Figure("edged_connections_refused", _C, "Connections refused: too many.", ("listener",)),
    Figure("edged_access_refused", _C, "Refused by access.rules or quotas.", ("reason",)),
    Figure("edged_connections_received_bytes", _C, "Bytes taken from peers.", ("listener",)),
    Figure("edged_connections_sent_bytes", _C, "Bytes written to peers.", ("listener",)),
    *BROKER_FIGURES,
    *ROLLOUT_FIGURES,
    *SUPPLY_FIGURES,
    Figure("edged_loop_lag_seconds", _H, "Lateness of the event loop, each second while scraped."),
    Figure("process_resident_memory_bytes", _G, "Resident memory of the daemon."),
    Figure("process_cpu_seconds", _C, "Processor time of the daemon, user and system."),
    Figure("process_open_fds", _G, "Open descriptors."),
    Figure("process_max_fds", _G, "Most descriptors that may be open."),
    Figure("process_start_time_seconds", _G, "When the daemon was started."),
)  # fmt: skip
"""Everything; docs/metrics.md lists the same (a test compares them)."""


class Listening(Protocol):
    """What a listener counts of its connections."""

    @property
    def connections(self) -> Collection[object]:
        """Those that are open."""
        ...

    accepted: int
    refused: int
    received_bytes: int
    sent_bytes: int


class _Sheet:
    """Families being filled in; a name that is not in the catalogue is a bug and raises."""

    def __init__(self) -> None:
        self._families = {figure.name: Family(figure) for figure in FIGURES}

    def add(self, name: str, value: Value | None, *labels: str) -> None:
        """Note a value; a second one for the same labels is put together with the first.

        A release that is loaded anew with other options is there twice while the old one drains,
        and a text with one series twice is refused as a whole.
        """
        if value is not None:
            family = self._families[name]
            if labels in family.samples:
                value = merged(family.figure.kind, family.samples[labels], value)
            family.samples[labels] = value

    def filled(self) -> list[Family]:
        return [family for family in self._families.values() if family.samples]


def collect(
    *,
    reloader: Reloader,
    reloads: ReloadTally,
    dataplane: Dataplane,
    manager: Manager,
    health: Health,
    links: Mapping[str, Any] | None,
    listeners: Mapping[str, Listening],
    lag: Times | None = None,
    engines: Iterable[tuple[str, float, tuple[str, ...]]] = (),
    denied: Mapping[str, int] | None = None,
    supply: Mapping[str, Any] | None = None,
) -> list[Family]:
    """Every figure that has a value now.

    Args:
        reloader: the configuration in effect and how the last change went.
        reloads: how all changes went.
        dataplane: the table, and what was refused.
        manager: every release.
        health: what is degraded.
        links: the broker's side; None without one.
        listeners: each listener's connections, by a name of ours.
        lag: how late the loop was; None while nobody measures.
        engines: figures of engines, with the values of their labels.
        denied: what the rules and bounds of clients refused, by reason.
        supply: what the status page shows of the store and of what comes here.
    """
    sheet = _Sheet()
    sheet.add("edged_build", 1, __version__, platform.python_version())
    sheet.add("edged_ready", int(is_ready(dataplane)))
    for key in health.degradations():
        sheet.add("edged_degraded", 1, key)
    _add_configuration(sheet, reloader, reloads, dataplane.table.generation)
    _add_models(sheet, dataplane)
    for release in manager.releases():
        _add_release(sheet, release)
    for device, slots in manager.devices.items():
        _add_device(sheet, device, slots)
    for pipeline in pipelines(dataplane):
        _add_pipeline(sheet, pipeline)
    for figure, number, labels in engines:
        sheet.add(figure, number, *labels)
    for model, cache in manager.workshop.caches.items():
        for name, value in cache.as_dict().items():
            sheet.add(f"edged_cache_{name}", value, model)
    for model, sequences in manager.shelves.items():
        _add_sequences(sheet, model, sequences)
    add_rollouts(sheet.add, manager.rollouts.as_list())
    add_supply(sheet.add, supply or {})
    _add_memory(sheet, manager)
    _add_workers(sheet, manager)
    _add_listeners(sheet, listeners, denied or {})
    if links is not None:
        add_broker(sheet.add, links)
    sheet.add("edged_loop_lag_seconds", lag)
    _add_process(sheet, read_process())
    return sheet.filled()


def _add_memory(sheet: _Sheet, manager: Manager) -> None:
    for device, memory in manager.memories.as_dict().items():
        sheet.add("edged_memory_budget_bytes", memory["budget_bytes"], device)
        sheet.add("edged_memory_promised_bytes", memory["promised_bytes"], device)
    for name, value, of in manager.recovery.figures():
        sheet.add(name, value, *of)


def _add_configuration(
    sheet: _Sheet, reloader: Reloader, reloads: ReloadTally, generation: int
) -> None:
    report = reloader.report
    sheet.add("edged_generation", generation)
    sheet.add("edged_config_digest", 1, reloader.digest)
    sheet.add("edged_config_last_reload_success", int(report.applied))
    sheet.add("edged_config_last_reload_timestamp_seconds", report.at)
    for outcome, count in reloads.counts.items():
        sheet.add("edged_reloads", count, outcome)


def _add_models(sheet: _Sheet, dataplane: Dataplane) -> None:
    routes = dataplane.table.routes
    for name, route in routes.items():
        serving = route.default_release()
        sheet.add("edged_model_ready", int(serving is not None), name, _word(route.required))
        if serving is not None:
            sheet.add("edged_model_serving_release", serving.number, name)
    for (model, transport, code), count in dataplane.refusals.items():
        if not model or model in routes:
            sheet.add("edged_requests_refused", count, model, transport, code.value)


def _add_release(sheet: _Sheet, release: ServedRelease) -> None:
    counters = release.counters
    of = (release.key.model, str(release.number))
    _add_served(sheet, release)
    sheet.add("edged_release_loads", release.loads, *of)
    sheet.add("edged_release_load_failures", counters.load_failures, *of)
    sheet.add("edged_release_resident", int(release.session is not None), *of)
    if release.footprint is not None:
        sheet.add("edged_release_memory_bytes", release.footprint.held, *of)
    sheet.add("edged_release_evictions", release.evictions, *of)
    sheet.add("edged_batches", counters.inline_batches, *of, "inline")
    where = "worker" if release.is_apart else "off_loop"
    sheet.add("edged_batches", counters.batches - counters.inline_batches, *of, where)


def _add_workers(sheet: _Sheet, manager: Manager) -> None:
    """What worker processes take, each counted once however many models share it."""
    for worker in workers(manager.releases()):
        for release, size in worker.shares():
            of = (release.key.model, str(release.number))
            sheet.add("edged_release_worker_memory_bytes", size, *of)
    for device, deaths in manager.loader.workers.deaths.items():
        sheet.add("edged_shared_worker_deaths", deaths, device)


def _add_pipeline(sheet: _Sheet, pipeline: PipelineRelease) -> None:
    _add_served(sheet, pipeline)
    of = (pipeline.key.model, str(pipeline.number))
    for name, step in pipeline.tally.steps.items():
        times = Times(tuple(step.times), step.spent_ns)
        sheet.add("edged_step_duration_seconds", times, *of, name)
        sheet.add("edged_steps_skipped", step.skipped, *of, name)
        sheet.add("edged_step_failures", step.failed, *of, name)
    if pipeline.plan.streamed is not None:
        streams = pipeline.tally.streams
        sheet.add("edged_streams", streams.requests, *of)
        sheet.add("edged_stream_answers", streams.answers, *of)
        times = Times(tuple(streams.first_times), streams.first_ns)
        sheet.add("edged_stream_first_answer_seconds", times, *of)


def _add_sequences(sheet: _Sheet, model: str, sequences: OpenSequences) -> None:
    sheet.add("edged_sequences_open", len(sequences), model)
    sheet.add("edged_sequence_state_bytes", sequences.size_bytes, model)
    sheet.add("edged_sequences_begun", sequences.begun, model)
    for outcome in ("ended", "evicted", "timed_out", "lost"):
        sheet.add("edged_sequences_closed", getattr(sequences, outcome), model, outcome)


def _add_served(sheet: _Sheet, release: Served) -> None:
    """What is counted of models and pipelines alike."""
    counters = release.counters
    of = (release.key.model, str(release.number))
    version, digest = release.manifest.version, release.key.digest
    sheet.add("edged_release", 1, *of, version, digest, release.runtime)
    for state in State:
        sheet.add("edged_release_state", int(state is release.state), *of, state.value)
    for transport, count in counters.transports.items():
        sheet.add("edged_requests", count, *of, transport)
    for code, count in counters.failed.items():
        sheet.add("edged_request_failures", count, *of, code.value)
    sheet.add("edged_requests_in_flight", release.in_flight, *of)
    sheet.add("edged_queue_rows", release.backlog.rows, *of)
    sheet.add("edged_queue_bytes", release.backlog.size_bytes, *of)
    sheet.add("edged_rows", counters.rows, *of)
    durations = Times(tuple(counters.durations), counters.duration_ns)
    sheet.add("edged_request_duration_seconds", durations, *of)
    waits = Times(tuple(counters.queue_times), counters.queue_ns)
    sheet.add("edged_queue_duration_seconds", waits, *of)
    runs = Times(tuple(counters.run_times), counters.run_ns)
    sheet.add("edged_run_duration_seconds", runs, *of)


def _add_device(sheet: _Sheet, device: str, slots: DeviceSlots) -> None:
    sheet.add("edged_device_slots", slots.rules.slots, device)
    sheet.add("edged_device_waiting", slots.waiting, device)
    for name, rank in RANKS.items():
        sheet.add("edged_device_slots_taken", slots.held.by_rank[rank], device, name)
        sheet.add("edged_device_waits", slots.waits[rank], device, name)


def _add_listeners(
    sheet: _Sheet, listeners: Mapping[str, Listening], denied: Mapping[str, int]
) -> None:
    for name, listening in listeners.items():
        sheet.add("edged_connections", len(listening.connections), name)
        sheet.add("edged_connections_accepted", listening.accepted, name)
        sheet.add("edged_connections_refused", listening.refused, name)
        sheet.add("edged_connections_received_bytes", listening.received_bytes, name)
        sheet.add("edged_connections_sent_bytes", listening.sent_bytes, name)
    for reason, count in denied.items():
        sheet.add("edged_access_refused", count, reason)


def _add_process(sheet: _Sheet, process: ProcessFigures) -> None:
    sheet.add("process_resident_memory_bytes", process.resident_bytes)
    sheet.add("process_cpu_seconds", process.cpu_s)
    sheet.add("process_open_fds", process.open_fds)
    sheet.add("process_max_fds", process.max_fds)
    sheet.add("process_start_time_seconds", process.started_s)


def names() -> Iterable[str]:
    """The names that one asks Prometheus for."""
    return (figure.shown for figure in FIGURES)


def _word(truth: object) -> str:
    return "true" if truth else "false"
