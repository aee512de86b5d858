"""A process for one job: ended with all that it started, its end told, its files not believed.

Knows nothing of the job; what is believed of the files it leaves is its caller's affair.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.errors import ConversionError

_TAIL_BYTES = 64 << 10
_FALLS = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE")
_HINTS = {"SIGKILL": " (out of memory?)", "SIGXCPU": " (out of processor time)"}


@dataclass(frozen=True)
class Told:
    """Words for messages.

    Args:
        name: of the work, as in "the conversion".
        limit: where its time is set.
        fell_over: what a crash of native code may mean.
    """

    name: str
    limit: str
    fell_over: str


def run_process(
    words: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    timeout_s: int,
    told: Told,
) -> None:
    """Run a program in a folder, to which its output goes too, and wait for its end.

    Args:
        words: the program and its arguments.
        folder: its own.
        environment: all of it.
        timeout_s: how long it may take.
        told: for messages.

    Raises:
        ConversionError: it took too long, crashed or failed; ends with its last words.
    """
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            list(words),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ConversionError(
                f"the {told.name} took longer than {timeout_s} s ({told.limit})"
            ) from None
        finally:
            _end(process)
    if status != 0:
        how = _how(status, told)
        raise ConversionError(f"the {told.name} process {how}: {_tail(folder / 'log')}")


def read_left(folder: Path, name: str, cap_bytes: int, told: Told) -> bytes:
    """Read one plain file of the folder; a link would be somebody else's file.

    Raises:
        ConversionError: it is not there, no plain file, or too large.
    """
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as exc:
        raise ConversionError(f"the {told.name} process left no {name}") from exc
    with open(descriptor, "rb") as file:  # noqa: PTH123  (opened by descriptor)
        if os.fstat(descriptor).st_size > cap_bytes:
            raise ConversionError(f"the {told.name}'s {name} is over {cap_bytes} bytes")
        return file.read(cap_bytes)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and whatever it started; its session is its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _how(status: int, told: Told) -> str:
    if status >= 0:
        return f"failed with exit status {status}"
    name = signal.Signals(-status).name
    hint = f" ({told.fell_over})" if name in _FALLS else _HINTS.get(name, "")
    return f"was ended by {name}{hint}"


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return " | ".join(line.strip()[:400] for line in lines[-3:]) or "it said nothing"
