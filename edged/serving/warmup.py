"""What a release runs before it is ready, so that its first requests are no first times.

Runtimes plan, choose kernels and take memory when they first see a number of rows. So the golden
samples run in batches of the sizes that requests will be put together to, and must give the same
numbers in each.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

import numpy as np

from edged.comparing import compare
from edged.config.schema import ModelConfig
from edged.costs import Costs
from edged.errors import EdgedError, GoldenMismatchError, WorkerDiedError
from edged.loading import Loaded, Samples, entries_for
from edged.manifest import ArtefactEntry, Manifest
from edged.runtimes.base import Session
from edged.serving.scheduling.scheduler import paying_rows
from edged.store.stored import Stored
from edged.strings import blank
from edged.tensors import Array

log = logging.getLogger("edged.serving")

_CAP_NS = 500_000_000
"""Whoever waits for a load waits for this, too. The largest batch comes first: it takes the most
memory, which the smaller ones then find."""
_BATCH_BYTES = 64 << 20
"""Inputs of a batch that is made only to be run once."""


def sizes_to_warm(costs: Costs, max_rows: int) -> tuple[int, ...]:
    """The rows of batches that are worth a run before anybody asks, the largest first.

    Args:
        costs: what runs take; empty when that is not known, as in trials, which serve nobody.
        max_rows: what the operator allows; 1 when rows cannot be stacked.

    Returns:
        What a batch should have at most, and every power of two below; one row has run already.
    """
    most = paying_rows(costs, max_rows) if costs else 1
    powers = [1 << bit for bit in range(1, most.bit_length()) if 1 << bit < most]
    return tuple(sorted({most, *powers} - {1}, reverse=True))


def warmed(loaded: Loaded, stored: Stored, config: ModelConfig) -> Loaded:
    """The same, after it has run what requests will make it run; closes it when that goes wrong.

    Raises:
        GoldenMismatchError: a batch gives other numbers than its rows do by themselves.
        WorkerDiedError: the process that hosts it died of a batch.
    """
    entries = entries_for(stored.manifest, loaded.runtime)
    entry = next(one for one in entries if one.precision == loaded.precision)
    try:
        warm_up(loaded.session, entry, loaded.costs, stored=stored, config=config)
    except BaseException:
        loaded.session.close()
        raise
    return loaded


def warm_up(
    session: Session, entry: ArtefactEntry, costs: Costs, *, stored: Stored, config: ModelConfig
) -> int:
    """Run the samples in every size of batch; returns how many runs that were."""
    manifest = stored.manifest
    if not config.warmup or not manifest.is_row_wise:
        return 0  # such calls have one size, which was run to prove it
    sizes = sizes_to_warm(costs, config.batching.max_batch)
    samples = stored.golden(entry) if sizes else None
    until_ns, count = time.monotonic_ns() + _CAP_NS, 0
    for rows in sizes:
        batch = _batch(manifest, samples, rows)
        if batch is None:
            continue
        for _ in range(config.warmup):
            if time.monotonic_ns() > until_ns:
                log.info(
                    'model "%s" release %d: its warm-up ends before batches of %d rows',
                    manifest.name, manifest.release, rows,
                )  # fmt: skip
                return count
            if not _run(session, manifest, entry, batch, rows):
                return count
            count += 1
    return count


def _run(
    session: Session, manifest: Manifest, entry: ArtefactEntry, batch: Samples, rows: int
) -> bool:
    """One run; whether larger or smaller ones are worth a try."""
    inputs, expected = batch
    owner = f'model "{manifest.name}" release {manifest.release} in a batch of {rows} rows'
    try:
        outputs = session.run(inputs)
    except WorkerDiedError:
        raise
    except EdgedError as exc:
        # Requests that meet such a batch are run one by one; that is no reason not to serve.
        log.warning("%s cannot be warmed: %s", owner, exc.message)
        return False
    promised = manifest.golden_of(entry)
    try:
        compare(outputs, expected, promised.tolerances if promised else {}, owner)
    except GoldenMismatchError as exc:
        words = f"{exc.message}; its rows give the promised numbers by themselves"
        raise GoldenMismatchError(words) from exc
    return True


def _batch(manifest: Manifest, samples: Samples | None, rows: int) -> Samples | None:
    """So many rows of the samples over and over, and their answers; None where that is too much."""
    if samples is None:
        inputs: Mapping[str, Array] = {
            spec.name: blank(spec, [1 if isinstance(axis, str) else axis for axis in spec.shape])
            for spec in manifest.input_specs()
        }
        samples = inputs, {}
    row_bytes = sum(array.nbytes // len(array) for array in samples[0].values())
    if rows * row_bytes > _BATCH_BYTES:
        return None
    inputs, expected = (
        {n: np.resize(a, (rows, *a.shape[1:])) for n, a in side.items()} for side in samples
    )
    return inputs, expected
