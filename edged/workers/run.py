"""A run in a worker from fixed memory to fixed memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from edged.tensors import Array


class AwakeSession(Protocol):
    """The part of a worker's session that such a run needs."""

    def run_awake(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """See ``WorkerSession``."""
        ...


class WorkerRun:
    """A run in a worker from fixed memory to fixed memory.

    Args:
        session: of the worker.
        inputs: read anew by every run.
        outputs: written by it.
    """

    def __init__(
        self, session: AwakeSession, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> None:
        self._session = session
        self._inputs, self._outputs = inputs, outputs

    def run(self) -> None:
        """See ``WorkerSession.run_awake``."""
        self._session.run_awake(self._inputs, self._outputs)
