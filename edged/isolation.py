"""A runtime whose sessions are worker processes, which can come to harm and cannot harm us.

It loads like any other runtime, into a process of its own (``worker.py``). One mechanism for a
release's first run (``serving/trial.py``) and for models that are kept apart for good.
"""

from __future__ import annotations

from edged.errors import WorkerDiedError
from edged.runtimes.base import Artefact, RuntimeInfo
from edged.worker_session import WorkerCaps, WorkerSession

__all__ = ["WorkerCaps", "WorkerRuntime", "WorkerSession"]


class WorkerRuntime:
    """A runtime whose sessions are processes.

    Args:
        name: the runtime that the worker uses.
        caps: for each of its processes.
    """

    def __init__(self, name: str, caps: WorkerCaps) -> None:
        self.name = name
        self._caps = caps
        self._crash = ""
        self._sessions: list[WorkerSession] = []

    def info(self) -> RuntimeInfo:
        """Nothing is imported here; the worker says what is missing when it loads."""
        return RuntimeInfo(self.name, "", ())

    def estimate_bytes(self, artefact: Artefact) -> int:
        """Upper bound: what the process may take."""
        return self._caps.memory_bytes or 5 * len(artefact.data)

    def load(self, artefact: Artefact) -> WorkerSession:
        """Start a process and let it load.

        Raises:
            WorkerDiedError: the process died over it.
            LoadError: the runtime refused it, or it took too long.
        """
        try:
            session = WorkerSession(self.name, artefact, self._caps)
        except WorkerDiedError as exc:
            self._crash = exc.crash
            raise
        self._sessions.append(session)
        return session

    @property
    def crash(self) -> str:
        """How a process of ours died by its own doing; empty when none did."""
        return self._crash or next((one.crash for one in self._sessions if one.crash), "")
