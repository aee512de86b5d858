"""A runtime whose sessions are worker processes, which can come to harm and cannot harm us.

It loads like any other runtime, into a process of its own (``workers/worker.py``) or into one that
others share (``workers/host.py``). One mechanism for a release's first run (``serving/trial.py``)
and for models that are kept apart for good.
"""

from __future__ import annotations

import functools

from edged import generating
from edged.config.schema import ModelConfig
from edged.device.memory import half_of_memory
from edged.errors import WorkerDiedError
from edged.runtimes.base import Artefact, RuntimeInfo
from edged.workers.session import Enter, WorkerCaps, WorkerSession
from edged.workers.shared import SharedWorkers, Who
from edged.workers.side import SideWay, widen
from edged.workers.streaming import TextSession, TextWay

__all__ = [
    "Enter", "SharedWorkers", "TextSession", "WorkerCaps", "WorkerRuntime", "WorkerSession",
    "enter_for",
]  # fmt: skip


def enter_for(
    config: ModelConfig, model: str, digest: str, shared: SharedWorkers, device: str
) -> Enter | None:
    """How a model gets a place in a process with several ways in; None where one way is enough.

    Args:
        config: its section.
        model: its name.
        digest: of the release.
        shared: the processes of the devices.
        device: that it runs on.
    """
    if config.isolation == "device":
        who = Who(f"device {device}", model, digest)
        return functools.partial(shared.enter, who)
    if config.isolation == "model" and config.batching.instances > 1:
        alone = SharedWorkers(half_of_memory())
        return functools.partial(alone.enter, Who(f"model {model}", model, digest))
    return None


class WorkerRuntime:
    """A runtime whose sessions are processes.

    Args:
        name: the runtime that the worker uses.
        caps: for each of its processes.
        enter: how its sessions get a place in a process that others share; None for processes of
            their own.
    """

    def __init__(self, name: str, caps: WorkerCaps, enter: Enter | None = None) -> None:
        self.name = name
        self._caps = caps
        self._enter = enter
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
            makes_text = artefact.inputs == generating.INPUTS
            kind = TextSession if makes_text else WorkerSession
            session = kind(self.name, artefact, self._caps, self._enter)
            if self._caps.ways > 1:
                widen(session, artefact, self._caps, TextWay if makes_text else SideWay)
        except WorkerDiedError as exc:
            self._crash = exc.crash
            raise
        self._sessions.append(session)
        return session

    @property
    def crash(self) -> str:
        """How a process of ours died by its own doing; empty when none did."""
        return self._crash or next((one.crash for one in self._sessions if one.crash), "")
