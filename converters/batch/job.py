"""One conversion of a batch, and what became of it, as processes tell each other. Words only."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from converters.recipe import Recipe

Empty = Literal["auto", "require", "off"]
LockMode = Literal["", "check", "write", "update"]


class Job(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One bundle to make.

    Args:
        name: the bundle's file name, which no other job of the batch has.
        output: its absolute path.
        recipe: what to make, with absolute paths.
        folder: where ``module:factory`` is looked for.
        python: the interpreter that the user named for all; empty for the recipe's own.
        lock: the recipe's lock file; empty where the recipe is no file.
        lock_mode: what to do with it; empty for nothing.
        key: the private key's path; empty to sign with none.
        trust: whether sources that run code may be opened.
        empty_env: as ``convert`` takes it.
        report: whether to write a report beside the bundle.
        fingerprint: digest of everything that decides the bundle's bytes; empty when it cannot be
            told beforehand.
    """

    name: str
    output: str
    recipe: Recipe
    folder: str
    python: str = ""
    lock: str = ""
    lock_mode: LockMode = ""
    key: str = ""
    trust: bool = False
    empty_env: Empty = "auto"
    report: bool = True
    fingerprint: str = ""


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of one job.

    Args:
        name: the job.
        status: ``done`` or ``failed``.
        fingerprint: the job's.
        seconds: how long it took.
        peak_bytes: the most memory that one of its processes held; None when it could not say.
        sha256: of the bundle's file; empty when it failed.
        digest: of its manifest.
        grade: what its numbers were proven on.
        error: one line; empty when it is done.
        exit: the exit status that the conversion alone would have had.
    """

    name: str
    status: Literal["done", "failed"]
    fingerprint: str = ""
    seconds: float = 0.0
    peak_bytes: int | None = None
    sha256: str = ""
    digest: str = ""
    grade: str = ""
    error: str = ""
    exit: int = 0


class Message(Struct, frozen=True, omit_defaults=True):
    """One line from a job's process: a step that begins, or the end."""

    step: str = ""
    outcome: Outcome | None = None
