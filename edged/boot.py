"""How the daemon's process begins: its first signal, the configuration to boot with, its loop."""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from edged.daemon import Daemon
from edged.errors import STATUS, EdgedError
from edged.generation.record import find_state_dir, load_for_boot
from edged.system.breath import wake_exactly
from edged.system.cores import spread
from edged.system.supervisor import Supervisor
from edged.system.timeslice import be_prompt
from edged.telemetry import log as logging_setup

log = logging.getLogger("edged.daemon")

_SWITCH_S = 0.0001
"""The longest that a thread waits for one that computes in Python: the event loop for whoever
loads, checks or writes, and a run that has ended for the loop, so that the next one can begin. With
the interpreter's own 5 ms each such wait is twenty times what a small model takes; with 0.1 instead
of 0.5 ms two models at their peak did 8 % more (``benchmarks/overload.py``, beside other work)."""


def run(config_path: Path, state_dir: Path | None = None) -> int:
    """Run the daemon until it is told to stop; returns the exit status."""
    # Before anything else: a SIGHUP that comes early must not end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    supervisor = Supervisor.from_environment()
    logging_setup.setup("info")
    try:
        state = state_dir or find_state_dir(config_path)
        snapshot, problems = load_for_boot(config_path, state)
        logging_setup.setup(snapshot.config.log.level)
        start = functools.partial(Daemon, config_path, snapshot, state, supervisor, problems)
        _run_loop(start)
    except EdgedError as exc:
        for line in exc.message.splitlines():
            log.error("%s", line)
        return STATUS[exc.code].exit
    return 0


def _run_loop(start: Any) -> None:
    sys.setswitchinterval(_SWITCH_S)
    be_prompt()
    try:
        import uvloop  # noqa: PLC0415 - only the daemon needs it
    except ImportError:
        log.warning("uvloop is not installed; requests take longer (pip install uvloop)")
        asyncio.run(_main(start))
        return
    loop = uvloop.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(_main(start))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _main(start: Any) -> None:
    threads = ThreadPoolExecutor(thread_name_prefix="asyncio", initializer=_begin_thread)
    asyncio.get_running_loop().set_default_executor(threads)
    await start().run()


def _begin_thread() -> None:
    spread()
    wake_exactly()
