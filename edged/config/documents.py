"""Which document is in effect beside the operator's files, as the state directory says.

Only reads, and believes nothing that is damaged; ``edged/generation/documents.py`` writes.

    DIRECTORY/state.json              which version is current, and what became of the last one
    DIRECTORY/version-00000007.yaml   a document as it came
    DIRECTORY/removed                 an operator's word that none is to be in effect
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from edged import decoding
from edged.config.source import MAX_FILE_BYTES

log = logging.getLogger("edged.reload")

FOLDER = "desired"
STATE = "state.json"
REMOVED = "removed"
LAST_VERSION = 10**15 - 1
_STATE_CAP_BYTES = 1 << 20
Version = Annotated[int, Meta(ge=0, le=LAST_VERSION)]
What = Literal["trying", "accepted", "rejected", "returned", "removed"]


class Verdict(Struct, frozen=True):
    """What became of a version.

    Args:
        version: which.
        sha256: of the message that brought it.
        what: ``trying`` while it has to prove itself, or is being built.
        at: since when, seconds since 1970.
        problems: why not; one line each.
        tries: how often it was begun, and the daemon did not live to say what came of it.
        base: the digest of the configuration that it changes, while it is being built.
    """

    version: Version
    sha256: str
    what: What
    at: float
    problems: tuple[str, ...] = ()
    tries: int = 0
    base: str = ""


class State(Struct, frozen=True):
    """What is known of documents.

    Args:
        seen: the highest version that was decided upon; none up to it is taken again.
        current: the version that lies beside the operator's files; 0 for none.
        verdict: on the last one.
    """

    seen: Version = 0
    current: Version = 0
    verdict: Verdict | None = None


class Document(NamedTuple):
    """A document as it lies there; its name is among those of a configuration's files."""

    name: str
    data: bytes


def file_name(version: int) -> str:
    """Of a document in its directory."""
    return f"version-{version:08d}.yaml"


def read_state(directory: Path) -> State:
    """What is known of documents.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    try:
        with (directory / STATE).open("rb") as file:
            return decoding.decode(file.read(_STATE_CAP_BYTES), State)
    except FileNotFoundError:
        return State()
    except msgspec.MsgspecError as exc:
        raise ValueError(f"{directory / STATE} is damaged ({exc})") from None


def read_document(directory: Path, version: int) -> Document | None:
    """One document; None when it is not there any more."""
    path = directory / file_name(version)
    try:
        with path.open("rb") as file:
            return Document(str(path), file.read(MAX_FILE_BYTES + 1))
    except OSError:
        return None


def read_current(directory: Path) -> Document | None:
    """The document that lies beside the operator's files; None for none, or an empty one."""
    try:
        state = read_state(directory)
        if state.current == 0 or (directory / REMOVED).exists():
            return None
    except PermissionError:
        return None  # somebody else's; whoever only checks files need not see it
    except (OSError, ValueError) as exc:
        log.warning("which document came over MQTT is not known: %s", exc)
        return None
    document = read_document(directory, state.current)
    return document if document is not None and document.data.strip() else None
