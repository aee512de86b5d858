"""Figures under the names that Triton gives them, for dashboards and autoscalers made for it.

Told only where the Open Inference Protocol is served over HTTP. Triton's counters have no suffix,
so they are shown as gauges: their names are what such tools ask for.
"""

from __future__ import annotations

from collections.abc import Iterable

from edged.errors import Code
from edged.serving.served import Served
from edged.telemetry.exposition import Family, Figure, Kind, merged

_RELEASE = ("model", "version")
_G = Kind.GAUGE

FIGURES = (
    Figure("nv_inference_request_success", _G, "Answers without an error.", _RELEASE),
    Figure(
        "nv_inference_request_failure", _G, "Answers that were an error.", (*_RELEASE, "reason")
    ),
    Figure("nv_inference_count", _G, "Rows that were run.", _RELEASE),
    Figure("nv_inference_exec_count", _G, "Batches that were run.", _RELEASE),
    Figure("nv_inference_request_duration_us", _G, "From taken to answered, in all.", _RELEASE),
    Figure("nv_inference_queue_duration_us", _G, "Waiting, in all.", _RELEASE),
    Figure("nv_inference_compute_infer_duration_us", _G, "In the runtime, in all.", _RELEASE),
    Figure("nv_inference_pending_request_count", _G, "Taken and not answered yet.", _RELEASE),
    Figure("nv_cache_num_hits_per_model", _G, "Answers that were kept from before.", _RELEASE),
)

_REASONS = {
    Code.RESOURCE_EXHAUSTED: "REJECTED",
    Code.UNAVAILABLE: "REJECTED",
    Code.CANCELLED: "CANCELED",
    Code.INTERNAL: "BACKEND",
}
"""All others are OTHER."""


def triton_families(releases: Iterable[Served]) -> list[Family]:
    """The figures of these releases; those that have no value are left out."""
    families = {figure.name: Family(figure) for figure in FIGURES}

    def add(name: str, value: int, *labels: str) -> None:
        family = families[f"nv_{name}"]
        before = family.samples.get(labels)
        # A release that is loaded anew is there twice while the old one drains.
        family.samples[labels] = value if before is None else merged(_G, before, value)

    for release in releases:
        counters, labels = release.counters, (release.key.model, str(release.number))
        add("inference_request_success", counters.requests - counters.failures, *labels)
        for code, count in counters.failed.items():
            add("inference_request_failure", count, *labels, _REASONS.get(code, "OTHER"))
        add("inference_count", counters.rows, *labels)
        add("inference_exec_count", counters.batches, *labels)
        add("inference_request_duration_us", counters.duration_ns // 1000, *labels)
        add("inference_queue_duration_us", counters.queue_ns // 1000, *labels)
        add("inference_compute_infer_duration_us", counters.run_ns // 1000, *labels)
        add("inference_pending_request_count", release.in_flight, *labels)
        if release.cache is not None:
            add("cache_num_hits_per_model", counters.cached, *labels)
    return [family for family in families.values() if family.samples]
