"""What became of a batch so far: ``batch.json`` beside its bundles, written after each job.

It is the summary of a batch that has ended, and what ``--resume`` goes on from.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from converters.atomic import replace_file
from converters.batch.job import Job, Outcome
from converters.errors import ConversionError
from converters.records import read_record

STATE = "batch.json"
CAP_BYTES = 64 << 20
"""Some thousand jobs have a megabyte."""


class State(Struct, frozen=True, kw_only=True):
    """The file's content: outcomes in the order of the batch."""

    format: Literal["edged-batch-v1"] = "edged-batch-v1"
    outcomes: tuple[Outcome, ...] = ()


@contextmanager
def opened_folder(folder: Path, jobs: Iterable[Job]) -> Iterator[None]:
    """Hold a folder of bundles for one batch, without what a killed one may have begun in it.

    Raises:
        ConversionError: it cannot be made, or another batch is at work in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as exc:
        raise ConversionError(f"{folder}: cannot be written: {exc.strerror}") from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise ConversionError(f"{folder}: another batch is at work in it") from exc
        for name in (*(job.name for job in jobs), STATE):
            for begun in folder.glob(f".{name}.*"):
                with contextlib.suppress(OSError):
                    begun.unlink()
        yield
    finally:
        os.close(descriptor)


def read_state(folder: Path) -> dict[str, Outcome]:
    """The outcomes so far by job; nothing where no batch has run.

    Raises:
        ConversionError: the file is not ours.
    """
    path = folder / STATE
    remedy = "without --resume it is written anew"
    state = read_record(path, State, CAP_BYTES, "a batch's state", remedy)
    if state is None:
        return {}
    return {outcome.name: outcome for outcome in state.outcomes}


def write_state(folder: Path, outcomes: Iterable[Outcome]) -> None:
    """Write the outcomes, whole or not at all.

    Raises:
        ConversionError: it cannot be written.
    """
    data = msgspec.json.encode(State(outcomes=tuple(outcomes)))
    replace_file(folder / STATE, msgspec.json.format(data, indent=1) + b"\n")


def is_done(job: Job, before: Outcome | None) -> bool:
    """Whether a job's bundle is there as it was made, from what the job still says.

    Args:
        job: what is wanted.
        before: what became of it the last time.
    """
    if before is None or before.status != "done" or not job.fingerprint:
        return False
    if before.fingerprint != job.fingerprint:
        return False
    try:
        with Path(job.output).open("rb") as file:
            digest = hashlib.sha256()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError:
        return False
    return digest.hexdigest() == before.sha256
