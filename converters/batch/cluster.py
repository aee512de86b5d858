"""An existing Dask cluster behind the executor's interface.

The only file of the converter that imports distributed. A worker starts the same process for a job
as this machine would; sources and bundles lie where every worker finds them under the same path.
"""

from __future__ import annotations

import contextlib
import queue
import time
import uuid
from typing import Any

import msgspec

from converters.batch.executor import LocalExecutor
from converters.batch.job import Job, Outcome
from converters.errors import ConversionError
from edged.errors import first_line

POLL_S = 1.0
"""How often a worker looks whether the batch was interrupted; conversions take seconds."""
CONNECT_S = 20
GRACE_S = 30.0
"""For interrupted workers: a poll, and the time that a process gets to clean up."""


class ClusterExecutor:
    """Runs jobs on the workers of a Dask scheduler.

    Args:
        address: the scheduler's, as ``tcp://HOST:8786``.
        slots: how many at a time; None for one for each thread of the workers.

    Raises:
        ConversionError: distributed is not installed, the scheduler does not answer or has no
            workers.
    """

    def __init__(self, address: str, slots: int | None = None) -> None:
        try:
            from distributed import Client, Event  # noqa: PLC0415  (an extra)
        except ImportError as exc:
            raise ConversionError(
                f"--dask needs {exc.name}, which is not installed: pip install 'edged[dask]'"
            ) from exc
        try:
            self._client = Client(address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as exc:
            raise ConversionError(f'no Dask scheduler answers at "{address}": {exc}') from exc
        threads = sum(self._client.nthreads().values())
        if not threads:
            self._client.close()
            raise ConversionError(f'the Dask scheduler at "{address}" has no workers')
        self.slots = slots or threads
        self._stop = Event(f"edged-batch-{uuid.uuid4()}", client=self._client)
        self._jobs: dict[Any, Job] = {}
        self._ended: queue.Queue[Any] = queue.Queue()

    def submit(self, job: Job) -> None:
        """Send the job to a worker."""
        # Neither a repetition: a conversion that killed its worker would kill the next one too.
        future = self._client.submit(
            run_on_worker, msgspec.json.encode(job), self._stop.name, pure=False, retries=0
        )
        self._jobs[future] = job
        future.add_done_callback(self._ended.put)

    def next_done(self, timeout_s: float | None = None) -> Outcome | None:
        """Wait for the cluster."""
        try:
            future = self._ended.get(timeout=timeout_s)
        except queue.Empty:
            return None
        job = self._jobs.pop(future)
        try:
            return msgspec.json.decode(future.result(), type=Outcome)
        except Exception as exc:  # whatever a cluster loses a job by
            words = first_line(exc, 400)
            error = f"the cluster lost it: {type(exc).__name__}: {words}"
            return Outcome(
                name=job.name, status="failed", fingerprint=job.fingerprint, error=error, exit=69
            )

    def close(self) -> None:
        """Interrupt what runs on the workers and wait for it to end."""
        try:
            if self._jobs:
                self._stop.set()
                deadline = time.monotonic() + GRACE_S
                with contextlib.suppress(queue.Empty):
                    for _ in self._jobs:
                        self._ended.get(timeout=max(0.0, deadline - time.monotonic()))
        finally:
            self._client.close()


def run_on_worker(data: bytes, stop: str) -> bytes:
    """One job in a process of the worker's machine.

    Args:
        data: the job.
        stop: the name of the event that says that the batch was interrupted.
    """
    from distributed import Event  # noqa: PLC0415  (an extra)

    interrupted = Event(stop)
    job = msgspec.json.decode(data, type=Job)
    local = LocalExecutor(1)
    local.submit(job)
    try:
        while (outcome := local.next_done(POLL_S)) is None:
            if interrupted.is_set():
                raise RuntimeError("interrupted")
    finally:
        local.close()
    return msgspec.json.encode(outcome)
