"""TensorRT as seen by a process that must not load engines: what this machine is, and no more.

An engine is machine code, and TensorRT's own library crashes where a driver is missing. So the
daemon neither imports the one nor loads the other: a child process says what is here (run as
``python -m edged.runtimes.tensorrt_host``), and worker processes load (``tensorrt.py``).

Decides how long an answer counts, with the time passed in by a clock.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

import msgspec

from edged import decoding
from edged.errors import LoadError
from edged.runtimes.base import Artefact, RuntimeInfo
from edged.runtimes.engine import Host, engine_bytes
from edged.runtimes.tensorrt_api import missing_words
from edged.system.child import child_environment

NAME = "tensorrt"
_TIMEOUT_S = 60.0
"""The first context of a cold GPU takes seconds; a driver that hangs must not hold up a load."""
_GOOD_S, _BAD_S = 60.0, 5.0
"""How long an answer counts. One load asks many times; an upgraded TensorRT, or a device that has
come back, is noticed by a later one."""
_OUTPUT_CAP = 64 << 10


class Told(msgspec.Struct, frozen=True):
    """What the child says: the machine, or why there is none to run engines."""

    host: Host | None = None
    problem: str = ""


class HostProbe:
    """Asks, and remembers the answer for a while. Used from several threads.

    Args:
        ask: gives what the child says; raises nothing.
        clock: seconds that only grow.
    """

    def __init__(
        self, ask: Callable[[], Told] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask or ask_child
        self._clock = clock
        self._lock = threading.Lock()
        self._told = Told()
        self._until = -1.0

    def host(self) -> Host:
        """This machine, as engines are bound to it.

        Raises:
            LoadError: no driver, no GPU, no TensorRT or no way to CUDA; the message says which.
        """
        with self._lock:
            if self._clock() >= self._until:
                self._told = self._ask()
                good = self._told.host is not None
                self._until = self._clock() + (_GOOD_S if good else _BAD_S)
            told = self._told
        if told.host is None:
            raise LoadError(told.problem)
        return told.host

    def forget(self) -> None:
        """Ask again the next time."""
        with self._lock:
            self._until = -1.0


def ask_child() -> Told:
    """Start the child, and read what it says. Never raises.

    Where there is no TensorRT at all nothing is started: most machines that find their own runtime
    are such.
    """
    if missing := missing_words():
        return Told(problem=missing)
    command = [sys.executable, "-s", "-m", "edged.runtimes.tensorrt_host"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=child_environment(),
            timeout=_TIMEOUT_S,
            check=False,
        )
        # What a driver prints comes before; the answer is the last line.
        line = done.stdout[-_OUTPUT_CAP:].rsplit(b"\n", 2)[-2:-1]
        return decoding.decode(b"".join(line), Told)
    except OSError as exc:
        return Told(problem=f"a process to look for TensorRT cannot be started: {exc.strerror}")
    except subprocess.TimeoutExpired:
        return Told(problem=f"the GPU did not answer within {_TIMEOUT_S:.0f} s")
    except (msgspec.DecodeError, UnicodeDecodeError):
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        return Told(problem=f"TensorRT or the driver fell over when asked what it is ({how})")


PROBE = HostProbe()
"""The one of this process."""


def this_host() -> Host:
    """This machine, as engines are bound to it; see ``HostProbe.host``."""
    return PROBE.host()


class TensorRtApart:
    """The backend for whoever is no worker: it tells what is here, and loads nothing.

    Args:
        probe: of this machine.
    """

    name = NAME

    def __init__(self, probe: HostProbe | None = None) -> None:
        self._probe = probe or PROBE

    def info(self) -> RuntimeInfo:
        """Whether a driver, a GPU, TensorRT and a way to CUDA are there; asks the child."""
        try:
            host = self._probe.host()
        except LoadError as exc:
            return RuntimeInfo(self.name, "", (), exc.message)
        return RuntimeInfo(self.name, host.tensorrt, ("cuda:0",))

    def estimate_bytes(self, artefact: Artefact) -> int:
        """Upper bound of what loading takes on the device, without the tensors of a run."""
        return engine_bytes(artefact.data)

    def load(self, artefact: Artefact) -> NoReturn:
        """Nothing: an engine can do whatever the process that loads it can.

        Raises:
            LoadError: always.
        """
        raise LoadError(
            f'model "{artefact.model}": an engine is machine code and is loaded in a worker '
            "process only"
        )


def tell() -> Told:
    """What the child says of this machine."""
    from edged.runtimes.tensorrt import TensorRtRuntime  # noqa: PLC0415 - the child's alone

    try:
        return Told(host=TensorRtRuntime().host())
    except LoadError as exc:
        return Told(problem=exc.message)
    except Exception as exc:
        return Told(problem=f"TensorRT cannot be asked what it is: {type(exc).__name__}: {exc}")


def main() -> int:
    """Print the answer as the last line, and end without asking the driver to clean up."""
    answer = msgspec.json.encode(tell())
    sys.stdout.buffer.write(b"\n" + answer + b"\n")
    sys.stdout.buffer.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
