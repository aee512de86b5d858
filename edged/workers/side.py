"""One more way to a model that is loaded in a worker: so that it runs several times at once.

A way has a socket and, in the child, a thread; the model is there once. What ends one way ends all.
"""

from __future__ import annotations

import socket

from edged.runtimes.base import Artefact
from edged.workers.link import WorkerLink
from edged.workers.process import Death, Place, WorkerCaps
from edged.workers.session import WorkerSession


class SideProcess:
    """What a side way sees of the process: it may close its socket, and end nothing.

    Args:
        lodger: whose way it is.
        sock: our end of it.
    """

    def __init__(self, lodger: Place, sock: socket.socket) -> None:
        self.socket = sock
        self._lodger = lodger

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._lodger.pid

    def settle(self) -> None:
        """Nothing: the model was loaded by the first way."""

    def end(self, wait_s: float = 0.0) -> None:
        """Close our end."""
        del wait_s
        self.socket.close()

    def death(self) -> Death:
        """How the process ended."""
        return self._lodger.death()


class SideWay(WorkerSession):
    """One more way to the model of a session.

    Args:
        lodger: the session's place.
        artefact: what was loaded there.
        caps: of the session.

    Raises:
        OSError: the process is gone.
    """

    def __init__(self, lodger: Place, artefact: Artefact, caps: WorkerCaps) -> None:
        self._start(artefact.model, caps)
        self.lodger = lodger
        self._process = SideProcess(lodger, lodger.widen())
        self._sock = self._process.socket
        self._link = WorkerLink(self._sock, artefact.model)
        self._link.agree(artefact.inputs, artefact.outputs)


def widen(
    session: WorkerSession, artefact: Artefact, caps: WorkerCaps, kind: type[SideWay] = SideWay
) -> None:
    """Let as many runs go at once as the caps say, each by a way of this kind.

    Raises:
        WorkerDiedError: the process is gone.
    """
    lodger = session.lodger
    if lodger is not None:
        try:
            for _ in range(caps.ways - 1):
                session.widen([kind(lodger, artefact, caps)])
        except OSError as exc:
            raise session.lost(exc) from exc
