"""Asks the sources of the configuration now and then, for the models whose ``pull`` says so.

Decides when; each pull is a process of its own (``edged bundle pull --model``), so that nothing a
source sends is read here, no library for it is loaded here, and the event loop waits for nobody.
One at a time: a device has one line. What comes of it is a file where ``bundle`` looks, which is
noticed as any other. A source that is away changes nothing but the status.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from edged import decoding
from edged.config.schema import Config
from edged.config.sources import parse_reference
from edged.system.child import child_environment
from edged.system.cores import usable
from edged.telemetry.health import Health

log = logging.getLogger("edged.sources")

_FIRST_S = 60.0
"""The first time is within this of the start: a site whose power is back does not ask at once."""
_FAILED_S = 30.0
"""After the first failure; doubled with each, up to ``poll``."""
_LONGEST_PULL_S = 24 * 3600.0
_ANSWER_CAP_BYTES = 64 << 10
_NICE = 10
_STATES = ("installed", "current", "failed")
_GIVEN = ("CREDENTIALS_DIRECTORY", "EDGED_FAULT_AT")
"""Of our environment, beside what every child gets: where systemd put the secrets."""


class Outcome(msgspec.Struct, frozen=True):
    """What a pull said at its end."""

    state: str
    text: str
    digest: str = ""
    retry_after_s: float = 0.0
    bytes: int = 0


@dataclass(slots=True)
class Polled:
    """One model, and how asking for it goes; ``failures`` are in a row, ``ended`` counts all."""

    model: str
    reference: str
    poll_s: float
    due_s: float
    failures: int = 0
    last: Outcome | None = None
    at: float = 0.0
    good_s: float | None = None
    bytes: int = 0
    ended: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_STATES, 0))


def wait_s(poll_s: float, failures: int, retry_after_s: float, luck: float) -> float:
    """How long until a source is asked again.

    Args:
        poll_s: as the operator said.
        failures: in a row.
        retry_after_s: what the source asked for; 0 for nothing.
        luck: from 0 to 1; devices that started together do not stay together.
    """
    usual = poll_s * (0.9 + 0.2 * luck)
    if not failures:
        return usual
    soon = min(_FAILED_S * (1 << min(failures - 1, 20)), poll_s) * (0.9 + 0.2 * luck)
    return max(soon, retry_after_s)


class Poller:
    """All models with ``pull``; used from the event loop only.

    Args:
        config_path: edged.yaml or its directory.
        state_dir: of the device.
        health: told of what fails.
        luck: a number from 0 to 1.
    """

    def __init__(
        self,
        config_path: Path,
        state_dir: Path,
        health: Health,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._config_path, self._state_dir, self._health = config_path, state_dir, health
        self._luck = luck
        self._polled: dict[str, Polled] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._pulling = ""
        self._is_stopped = False

    def follow(self, config: Config) -> None:
        """Go by a configuration from now on; what it does not change keeps its time."""
        now, before = time.monotonic(), self._polled
        self._polled = {}
        for name, model in config.models.items():
            if model.pull is None:
                continue
            source = config.sources[parse_reference(model.pull).source]
            poll_s = source.poll / 1e9
            known = before.get(name)
            if known is None or known.reference != model.pull:
                due_s = now + self._luck() * min(poll_s, _FIRST_S)
                known = Polled(name, model.pull, poll_s, due_s)
            known.poll_s = poll_s
            known.due_s = min(known.due_s, now + max(poll_s * 1.1, _retry_after(known)))
            self._polled[name] = known
        for name in before.keys() - self._polled.keys():
            self._health.restore(f"pull.{name}")
        self._arm()

    def stop(self) -> None:
        """Ask no more, and end what is on its way; what came of a download is kept."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def as_list(self) -> list[dict[str, Any]]:
        """What the status shows."""
        now = time.monotonic()
        return [
            {
                "model": one.model,
                "pull": one.reference,
                "state": "pulling" if one.model == self._pulling else _state(one.last),
                "text": one.last.text if one.last is not None else "",
                "digest": one.last.digest if one.last is not None else "",
                "at": one.at,
                "failures": one.failures,
                "ended": dict(one.ended),
                "bytes": one.bytes,
                "good_ago_s": None if one.good_s is None else round(now - one.good_s, 1),
                "next_in_s": round(max(one.due_s - now, 0.0), 1),
            }
            for one in self._polled.values()
        ]

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_stopped or self._task is not None or not self._polled:
            return
        due_s = min(one.due_s for one in self._polled.values())
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(due_s - time.monotonic(), 0.0), self._begin)

    def _begin(self) -> None:
        self._timer = None
        if self._is_stopped or not self._polled:
            return
        one = min(self._polled.values(), key=lambda one: one.due_s)
        self._pulling = one.model
        self._task = asyncio.get_running_loop().create_task(self._pull(one))

    async def _pull(self, one: Polled) -> None:
        try:
            try:
                outcome = await run_pull(self._config_path, self._state_dir, one.model)
            except Exception as exc:
                # Out of threads, say: asked again at once, that would go round and round.
                log.exception("a pull failed in an unexpected way")
                outcome = Outcome("failed", f"{type(exc).__name__}: {exc}; see the daemon's log")
            self._note(one, outcome)
        finally:
            self._task, self._pulling = None, ""
            self._arm()

    def _note(self, one: Polled, outcome: Outcome) -> None:
        is_new = one.last is None or one.last.text != outcome.text
        has_failed = outcome.state == "failed"
        one.failures = one.failures + 1 if has_failed else 0
        one.last, one.at = outcome, time.time()
        one.bytes += max(outcome.bytes, 0)
        one.ended[outcome.state if outcome.state in one.ended else "failed"] += 1
        one.good_s = one.good_s if has_failed else time.monotonic()
        pause_s = wait_s(one.poll_s, one.failures, outcome.retry_after_s, self._luck())
        one.due_s = time.monotonic() + pause_s
        if self._polled.get(one.model) is not one:
            return  # the configuration has changed meanwhile
        if has_failed:
            self._health.degrade(f"pull.{one.model}", f"{one.reference}: {outcome.text}")
            return
        self._health.restore(f"pull.{one.model}")
        if outcome.state == "installed" and is_new:
            log.info("pulled %s: %s", one.reference, outcome.text)


async def run_pull(config_path: Path, state_dir: Path, model: str) -> Outcome:
    """One pull, in a process that is gone when this ends, however it ends."""
    words = ["bundle", "pull", "--model", model, "--json", "--config", str(config_path)]
    try:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-s", "-m", "edged", *words,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, env=_environment(state_dir), start_new_session=True,
        )  # fmt: skip
    except OSError as exc:
        return Outcome("failed", f"a process to pull with cannot be started: {exc.strerror}")
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, child.pid, _NICE)
        # It was begun by the loop's thread, which may stay on one core just then.
        os.sched_setaffinity(child.pid, usable())
    try:
        assert child.stdout is not None
        said = await asyncio.wait_for(_all_of(child.stdout), _LONGEST_PULL_S)
        if len(said) >= _ANSWER_CAP_BYTES:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
        await asyncio.wait_for(_end_of(child, child.stdout), 60.0)
    except asyncio.TimeoutError:
        return Outcome("failed", "it took too long, and was ended; what came is kept")
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    return _outcome(said, child.returncode or 0)


async def _end_of(child: asyncio.subprocess.Process, pipe: asyncio.StreamReader) -> None:
    # What is not read keeps the pipe open, and an end with an open pipe is not told.
    while await pipe.read(_ANSWER_CAP_BYTES):
        pass
    await child.wait()


async def _all_of(pipe: asyncio.StreamReader) -> bytes:
    said = b""
    while len(said) < _ANSWER_CAP_BYTES and (part := await pipe.read(_ANSWER_CAP_BYTES)):
        said += part
    return said


def _outcome(said: bytes, status: int) -> Outcome:
    try:
        return decoding.decode(said, Outcome)
    except (msgspec.MsgspecError, ValueError):
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return Outcome("failed", f"the pulling process ended without a word ({how})")


def _environment(state_dir: Path) -> Mapping[str, str]:
    given = {name: os.environ[name] for name in _GIVEN if name in os.environ}
    return {**child_environment(), **given, "STATE_DIRECTORY": str(state_dir)}


def _state(last: Outcome | None) -> str:
    return "waiting" if last is None else last.state


def _retry_after(one: Polled) -> float:
    return one.last.retry_after_s if one.last is not None else 0.0
