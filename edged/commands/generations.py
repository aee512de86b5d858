"""``edged apply``, ``edged history`` and ``edged rollback``: the configurations of this device.

History and orders lie in the state directory, whether the daemon runs or not. A running daemon is
asked by the signal that has always had it look, and says over its socket how that went.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edged.client import Client
from edged.commands.dates import date_words
from edged.commands.disk import refused
from edged.commands.rendering import table
from edged.errors import (
    ApplyError,
    DeadlineExceededError,
    DisconnectedError,
    EdgedError,
    NotFoundError,
)
from edged.generation.history import History, Order
from edged.generation.record import HISTORY

_POLL_S = 0.02
"""A reload that changes a route takes about as long."""
_WHERE = (
    "the daemon keeps each that takes effect; is it this daemon's? if not: --config FILE of the "
    "daemon, or --state-dir"
)


class Refused(Exception):  # noqa: N818 - a verdict, and no fault of anybody here
    """The daemon looked and did not take it; carries every problem, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def ask(
    socket: str | None, state_dir: Path, order: Order | None, *, timeout_s: float, until: str
) -> str:
    """Have the daemon look at its files, or go back.

    Args:
        socket: of the daemon; None for the usual one.
        state_dir: of the daemon.
        order: what to leave there for it; None for nothing.
        timeout_s: how long to wait.
        until: ``asked``, ``applied`` or ``confirmed``.

    Returns:
        What came of it, for a person.

    Raises:
        Refused: it did not take it.
        EdgedError: the daemon is not there, or not ours to ask.
    """
    with Client(socket) as client:
        try:
            before = _look(client)
        except DisconnectedError as exc:
            return _leave(state_dir, order, exc)
        if "begun" not in before["config"]:
            raise ApplyError("the daemon is older than this command; restart it first")
        if order is not None and not _keeps_state(before["pid"], state_dir):
            raise ApplyError(
                f"the daemon that answers keeps its state elsewhere than in {state_dir}; name its "
                "configuration with --config FILE, or that folder with --state-dir"
            )
        _leave(state_dir, order)
        signal_daemon(before["pid"])
        if until == "asked":
            return "asked; what comes of it: edged status"
        number, limit = before["config"]["begun"], time.monotonic() + timeout_s
        look = lambda: _status(client)  # noqa: E731 - the client is this block's
        status = _when(look, lambda config: config["looked"] > number, limit)
        back = status["config"]["went_back"]
        if order is not None and order.generation is not None:
            return _went_back(status, back if back != before["config"]["went_back"] else None)
        _refuse(status)
        if until == "confirmed":
            status = _when(look, lambda config: config["window_left_s"] is None, limit)
            _refuse(status)
            if unnoted := status["config"].get("unnoted"):
                raise Refused([f"generation {status['generation']} serves: {unnoted}"])
    return f"generation {status['generation']} is in effect ({status['config']['digest'][:12]})"


def history_document(state_dir: Path) -> list[dict[str, Any]]:
    """Every generation that is kept, the newest first."""
    history = History(state_dir / HISTORY)
    marks, entries = history.marks(), history.entries()
    lines = []
    for entry in reversed(entries):
        rejection = marks.rejection(entry.digest)
        state = "confirmed" if entry.generation in marks.confirmed else "not confirmed"
        lines.append(
            {
                "generation": entry.generation,
                "digest": entry.digest,
                "at": entry.at,
                "origin": entry.origin,
                "is_newest": entry is entries[-1],
                "state": "set aside" if rejection else state,
                "reason": rejection.reason if rejection else "",
                "releases": entry.releases,
            }
        )
    return lines


def render_history(document: list[dict[str, Any]], state_dir: Path) -> str:
    """Lines for a person."""
    if not document:
        return f"{state_dir} keeps no generation yet; {_WHERE}"
    head = ("generation", "since", "from", "digest", "state")
    rows = [
        (
            one["generation"],
            date_words(one["at"]),
            one["origin"],
            one["digest"][:12],
            one["state"] + (f": {one['reason']}" if one["reason"] else ""),
        )
        for one in document
    ]
    return table(head, rows)


def _keeps_state(pid: int, state_dir: Path) -> bool:
    """Whether a process has this folder's lock open; True where that cannot be told.

    An order that is left with another daemon is carried out there, at its next start.
    """
    try:
        lock = (state_dir / "lock").stat()
        numbers = list(Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return not Path(f"/proc/{pid}").exists()  # who is not to be seen may be anybody
    except OSError:
        return True
    for number in numbers:
        try:
            if os.path.samestat(number.stat(), lock):
                return True
        except FileNotFoundError:
            continue  # closed meanwhile, or no file
        except OSError:
            return True  # it has a right that we lack: its files are listed and not to be seen
    return False


def _leave(state_dir: Path, order: Order | None, absent: EdgedError | None = None) -> str:
    if order is None:
        if absent is not None:
            raise absent
        return ""
    history = History(state_dir / HISTORY)
    number = order.generation
    if number and number not in {one.generation for one in history.entries()}:
        raise NotFoundError(f"{state_dir} keeps no generation {number}; see: edged history")
    if number is not None and not history.entries():
        raise ApplyError(f"{state_dir} keeps no generation yet; {_WHERE}")
    if not state_dir.is_dir():
        raise ApplyError(f"there is no folder {state_dir}; {_WHERE}")
    try:
        history.order(order)
    except OSError as exc:
        raise ApplyError(f"{state_dir} cannot be written: {refused(exc)}") from exc
    return "the daemon does not answer; it is done at its next start"


def signal_daemon(pid: Any) -> None:
    """Have a daemon look at its files; raises ApplyError."""
    if not isinstance(pid, int) or pid <= 1:  # -1 would be everybody, where root asks
        raise ApplyError(f"what answers says that it is process {str(pid)[:20]}, no daemon")
    try:
        os.kill(pid, signal.SIGHUP)
    except (PermissionError, ProcessLookupError) as exc:
        raise ApplyError(
            f"the daemon (process {pid}) cannot be asked: {exc.strerror}; run it as root or as the "
            "daemon's user, in the same container"
        ) from exc


def _status(client: Client) -> dict[str, Any]:
    try:
        return _look(client)
    except DisconnectedError:
        time.sleep(_POLL_S)  # its socket may be moving
        return _look(client)


def _look(client: Client) -> dict[str, Any]:
    # Not of the models: of hundreds, that would hold up what they are asked meanwhile.
    document: dict[str, Any] = client.call("status", part="config")
    return document


def _when(
    look: Callable[[], dict[str, Any]], is_done: Callable[[dict[str, Any]], bool], limit: float
) -> dict[str, Any]:
    while True:
        status = look()
        if is_done(status["config"]):
            return status
        if time.monotonic() > limit:
            raise DeadlineExceededError("the daemon is still at it; see how it goes: edged status")
        time.sleep(_POLL_S)


def _refuse(status: dict[str, Any]) -> None:
    if not status["config"]["applied"]:
        raise Refused(status["config"]["problems"])


def _went_back(status: dict[str, Any], back: dict[str, Any] | None) -> str:
    if back is None or back["problem"]:
        raise Refused([back["problem"] if back else "the daemon did not find the order"])
    said = f"generation {status['generation']} is in effect ({status['config']['digest'][:12]})"
    if back.get("trust"):
        said += f"; NOTE: {back['trust']}"
    if not status["config"]["applied"]:
        said += "; the files are set aside until they change, or until: edged apply --again"
    return said
