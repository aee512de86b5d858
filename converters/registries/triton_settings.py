"""Triton's scheduling words as edged's: what the configuration can say, and what differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from converters.registries.triton_model import TritonModel

COMPLETED_BATCH = 4
"""What Triton takes for max_batch_size where none is said and the model could batch."""
MAX_BATCH = 65536
MAX_INSTANCES = 64
MAX_ROWS = 10**6
MAX_DELAY_US = 60_000_000
MAX_WARMUP = 100
CACHE_SIZE = "16MiB"
"""Thousands of answers of a classifier; Triton has no default of its own."""


@dataclass(frozen=True)
class Batching:
    """How Triton calls the model.

    Args:
        rows: most rows of one call; 0 when shapes are exactly as written.
        is_completed: Triton would fill it in itself.
    """

    rows: int
    is_completed: bool = False


def batching_of(model: TritonModel, *, could_batch: bool) -> Batching:
    """The batching that Triton ends up with.

    Args:
        model: the model.
        could_batch: every tensor of the file has a free first axis.
    """
    rows = model.config.max_batch_size
    if rows > 0:
        return Batching(min(rows, MAX_BATCH))
    if could_batch and not model.config.input and not model.config.output:
        model.differences.append(
            f"max_batch_size: not written; Triton completes it to {COMPLETED_BATCH} with dynamic "
            "batching, and so does the import"
        )
        return Batching(COMPLETED_BATCH, is_completed=True)
    return Batching(0)


def edged_settings(model: TritonModel, batching: Batching) -> dict[str, Any]:
    """The model's section of edged's configuration, without its bundles.

    What it cannot say is added to the model's differences.
    """
    notes = model.differences
    config = model.config
    section: dict[str, Any] = {}
    work: dict[str, Any] = {}
    if batching.rows:
        work["max_batch"] = batching.rows
        if not config.HasField("dynamic_batching") and not batching.is_completed:
            notes.append(
                "dynamic_batching: off in Triton, where each request runs alone; edged lets those "
                "that wait share a run (rows are proven independent)"
            )
    elif config.HasField("dynamic_batching"):
        notes.append("dynamic_batching: has no effect, for max_batch_size is 0")
    if config.HasField("dynamic_batching"):
        _dynamic(config.dynamic_batching, batching, work, section, notes)
    _instances(config, work, notes)
    if work:
        section["batching"] = work
    _kept(config, section, notes)
    _others(config, notes)
    return section


def _dynamic(
    config: Any, batching: Batching, work: dict[str, Any], section: dict[str, Any], notes: list[str]
) -> None:
    delay = config.max_queue_delay_microseconds
    if delay and batching.rows:
        work["max_queue_delay"] = f"{min(delay, MAX_DELAY_US)}us"
        if delay > MAX_DELAY_US:
            notes.append(f"max_queue_delay_microseconds: {delay} is cut to {MAX_DELAY_US}")
    preferred = [size for size in config.preferred_batch_size if size != batching.rows]
    if preferred:
        notes.append(
            f"preferred_batch_size {preferred}: edged measures on the device which sizes pay"
        )
    if config.preserve_ordering:
        notes.append("preserve_ordering: not promised; each answer names its request")
    notes += [
        f"{name}: edged has one queue a release"
        for name in ("priority_levels", "default_priority_level", "priority_queue_policy")
        if getattr(config, name)
    ]
    policy = config.default_queue_policy
    if policy.max_queue_size:
        rows = min(max(policy.max_queue_size, batching.rows), MAX_ROWS)
        section["queue"] = {"max_rows": rows}
        notes.append(f"max_queue_size {policy.max_queue_size}: counts rows, not requests")
    else:
        notes.append("max_queue_size: no bound in Triton; edged's own holds (queue.max_rows)")
    notes += [
        f"default_queue_policy.{name}: a deadline belongs to the request or its binding, not to "
        "the queue"
        for name in ("timeout_action", "default_timeout_microseconds", "allow_timeout_override")
        if policy.HasField(name)
    ]


def _instances(config: Any, work: dict[str, Any], notes: list[str]) -> None:
    count = 0
    for group in config.instance_group:
        if group.passive:
            notes.append("instance_group: a passive one is left out")
            continue
        count += max(1, group.count)
        kind = group.DESCRIPTOR.fields_by_name["kind"].enum_type.values_by_number[group.kind].name
        if kind in ("KIND_GPU", "KIND_MODEL"):
            notes.append(f"instance_group: {kind}; edged runs this bundle on the CPU")
        if any(gpu != 0 for gpu in group.gpus):
            notes.append(f"instance_group: gpus {list(group.gpus)} are not chosen")
        notes += [
            f"instance_group.{name}: has no meaning without TensorRT"
            for name in ("secondary_devices", "profile")
            if getattr(group, name)
        ]
        notes += [
            f"instance_group.{name}: edged has no such setting"
            for name in ("rate_limiter", "host_policy")
            if group.HasField(name)
        ]
    if count:
        work["instances"] = min(count, MAX_INSTANCES)
        if count > MAX_INSTANCES:
            notes.append(f"instance_group: {count} instances are cut to {MAX_INSTANCES}")


def _kept(config: Any, section: dict[str, Any], notes: list[str]) -> None:
    """Answers that are kept, and runs before the first request."""
    if config.response_cache.enable:
        section["cache"] = {"size": CACHE_SIZE}
        notes.append(
            f"response_cache: its size is an option of the server there; {CACHE_SIZE} is written "
            "for this model alone"
        )
    if config.model_warmup:
        count = max(request.count for request in config.model_warmup)
        if count > 1:
            section["warmup"] = min(count, MAX_WARMUP)
        notes.append(
            "model_warmup: its rows become the golden samples, which run in each size of batch "
            "before a release is ready"
        )


def _others(config: Any, notes: list[str]) -> None:
    """Fields that have no counterpart: one line each, none dropped in silence."""
    optimization = config.optimization
    notes += [
        f"optimization.{field.name}: edged has no such setting"
        for field, _ in optimization.ListFields()
        if field.name != "execution_accelerators"
    ]
    accelerators = optimization.execution_accelerators
    asked = (*accelerators.gpu_execution_accelerator, *accelerators.cpu_execution_accelerator)
    notes += [f"execution_accelerators: {entry.name} is not used" for entry in asked]
    for key in sorted(config.parameters):
        value = config.parameters[key].string_value[:80]
        notes.append(f'parameters: {key} = "{value}" is kept in the provenance only')
    if config.cc_model_filenames:
        notes.append(
            f"cc_model_filenames: files for GPUs ({', '.join(sorted(config.cc_model_filenames))}) "
            "are left out; the default file is taken"
        )
    if config.runtime:
        notes.append(f'runtime: "{config.runtime[:80]}" is a library of Triton\'s, not used here')
    if config.metric_tags:
        notes.append("metric_tags: edged's metrics have no labels of a model's own")
    for name, why in (
        ("model_repository_agents", "are not run; every member of a bundle has its sha256"),
        ("model_metrics", "edged's histograms have buckets of their own"),
    ):
        if config.HasField(name):
            notes.append(f"{name}: {why}")
