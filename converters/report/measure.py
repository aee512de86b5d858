"""How a bundle's model files run on this machine: size, operators, accuracy, latency by batch."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from converters import graph
from converters.parity import compare
from converters.report.evidence import ArtefactEvidence, Latency
from converters.session import VERSION, Run, open_session
from converters.verify import run_member
from converters.walk import graphs, nodes
from edged.errors import EdgedError
from edged.manifest import ArtefactEntry, Manifest, Tolerance
from edged.tensors import Array

BATCHES = (1, 2, 4, 8, 16, 32)
BUDGET_S = 1.0
"""For all batch sizes of a file: a report must not take longer than the conversion."""
RUNS = 7
"""Of one size at most; the median leaves out what the machine did beside it."""


def measure_artefact(
    entry: ArtefactEntry,
    data: bytes,
    inputs: Mapping[str, Array],
    expected: Mapping[str, Array],
    manifest: Manifest,
    *,
    budget_s: float = BUDGET_S,
) -> ArtefactEvidence:
    """Run one ONNX file on the golden rows.

    Args:
        entry: the artefact.
        data: its bytes.
        inputs: the golden inputs.
        expected: the framework's answers to them.
        manifest: its signature and tolerances.
        budget_s: for the latency at all batch sizes; 0 leaves it out.

    Raises:
        IncompatibleError: it does not load or run here, or answers other than it promises.
    """
    model = graph.parse(data)
    run = open_session(data)
    got = run_member(data, inputs, list(expected), f"{entry.precision} ")
    tolerances = manifest.golden.tolerances if manifest.golden else {}
    results = []
    for name, array in expected.items():
        try:
            results.append(compare(name, array, got[name], tolerances.get(name, Tolerance())))
        except EdgedError:
            continue  # other shapes or NaN: there is no number for it
    gaps = [r.max_abs for r in results if np.isfinite(r.max_abs)]
    agreements = [r.label_agreement for r in results if r.label_agreement is not None]
    weights = sum(
        len(t.raw_data) or t.ByteSize() for g in graphs(model.graph) for t in g.initializer
    )
    return ArtefactEvidence(
        file=entry.file,
        precision=entry.precision,
        size_bytes=len(data),
        weights_bytes=weights,
        opset=entry.opset,
        nodes=dict(Counter(node.op_type for node in nodes(model.graph)).most_common()),
        max_abs=max(gaps, default=None),
        label_agreement=min(agreements, default=None),
        latency=measure_latency(run, inputs, is_row_wise=manifest.is_row_wise, budget_s=budget_s)
        if budget_s
        else (),
    )


def measure_latency(
    run: Run, inputs: Mapping[str, Array], *, is_row_wise: bool, budget_s: float = BUDGET_S
) -> tuple[Latency, ...]:
    """The median time of a run at each batch size, until the budget is spent."""
    rows = len(next(iter(inputs.values()))) if is_row_wise else 1
    found: list[Latency] = []
    left = budget_s
    for size in BATCHES if is_row_wise else (1,):
        part = inputs
        if is_row_wise:
            part = {name: array[np.arange(size) % rows] for name, array in inputs.items()}
        # One run twice as large takes twice as long at most; start none that would overdraw.
        if found and 2 * (found[-1].milliseconds / 1e3) * 2 > left:
            break
        times: list[float] = []
        while len(times) <= RUNS and (len(times) < 2 or sum(times) < budget_s / len(BATCHES)):
            start = time.perf_counter()
            run(part)
            times.append(time.perf_counter() - start)
        left -= sum(times)
        # The first run of a size prepares it, and is left out.
        found.append(Latency(size, round(statistics.median(times[1:]) * 1e3, 4)))
    return tuple(found)


def describe_machine() -> dict[str, str]:
    """Where the times were measured: no name, no address, no user."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "onnxruntime": f"{VERSION}, CPU, 1 thread",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return " ".join(value.split())
    return platform.machine()
