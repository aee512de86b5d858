"""What is noted on disk about generations: their numbers, the last good configuration, the slots.

Everything is written so that a power cut leaves the old or the new, wholly.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from edged.config.load import Snapshot, load, load_saved, save
from edged.config.problems import ConfigProblemsError
from edged.config.source import read_source
from edged.errors import EdgedError
from edged.serving.dataplane import ServingTable
from edged.serving.release import ServedRelease
from edged.store.repository import Repository

log = logging.getLogger("edged.reload")

_LAST_GOOD = "last-good"
_GENERATION = "generation.json"
DEFAULT_STATE_DIR = "/var/lib/edged"
_STATE_DIR_LINE = re.compile(
    r"""^["']?state_dir["']?[ \t]*:[ \t]+["']?([^"'#\n]+?)["']?[ \t]*(?:#.*)?$""", re.MULTILINE
)


class _Noted(Struct, frozen=True):
    """The last generation; a file that holds anything else counts as none."""

    generation: Annotated[int, Meta(ge=0, lt=2**53)]
    digest: str


class Record:
    """The notes of one state directory."""

    def __init__(self, state_dir: Path, repository: Repository) -> None:
        self._directory = state_dir
        self._repository = repository

    def next_generation(self, digest: str) -> int:
        """The number for a configuration: one more than the last, or the same for the same.

        Raises:
            OSError: it cannot be written; then no number was used.
        """
        path = self._directory / _GENERATION
        number, last = 0, ""
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            noted = msgspec.json.decode(path.read_bytes(), type=_Noted)
            number, last = noted.generation, noted.digest
        if last == digest and number > 0:
            return number
        write_atomically(path, msgspec.json.encode(_Noted(number + 1, digest)))
        return number + 1

    def keep(self, snapshot: Snapshot) -> None:
        """Keep a configuration that was applied as a whole; it is what a broken boot falls back on.

        Raises:
            EdgedError: it cannot be written.
            OSError: likewise.
        """
        save(snapshot, self._directory / _LAST_GOOD)

    def activate(self, table: ServingTable) -> None:
        """Note for each model which release serves; the next boot falls back on it.

        Raises:
            EdgedError: a slot cannot be written.
            OSError: likewise.
        """
        repository = self._repository
        for route in table.routes.values():
            serving = route.default_release()
            if not isinstance(serving, ServedRelease) or serving is route.fallback:
                continue
            if not serving.is_proven:
                continue  # a lazy one that was never run here is no good to fall back on
            digest = serving.key.digest
            if repository.current(route.model) != digest:
                repository.activate(route.model, digest)
            # Also for one that was activated before: a kill between the two lines would otherwise
            # leave it unproven, and set it aside at the third start.
            repository.mark_good(route.model, digest)


def load_for_boot(config_path: Path, state_dir: Path) -> tuple[Snapshot, tuple[str, ...]]:
    """The configuration to start with: the files, or the last good one when they are broken.

    Returns:
        The snapshot, and what is wrong with the files (empty when they were taken).

    Raises:
        ConfigProblemsError: the files are broken and there is no last good configuration.
    """
    try:
        return load(config_path), ()
    except ConfigProblemsError as exc:
        try:
            saved = load_saved(state_dir / _LAST_GOOD)
        except (EdgedError, OSError):
            raise exc from None
        return saved, tuple(str(problem) for problem in exc.problems)


def find_state_dir(config_path: Path) -> Path:
    """Where the state is, also when the configuration cannot be parsed.

    $STATE_DIRECTORY (systemd) goes first; then the configuration; when that is broken, a line
    ``state_dir:`` at the top level of one of its files, read as text, so that a syntax error
    elsewhere does not hide the last good configuration; then the default. Files that others could
    have written are not asked: they would choose which last good configuration is believed.
    """
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    try:
        snapshot = load(config_path)
    except ConfigProblemsError:
        return _search_state_dir(config_path)
    return snapshot.resolve(snapshot.config.state_dir)


def _search_state_dir(config_path: Path) -> Path:
    try:
        source = read_source(config_path)
    except ConfigProblemsError:
        return Path(DEFAULT_STATE_DIR)
    for data in source.files.values():
        match = _STATE_DIR_LINE.search(data.decode("utf-8", "replace").replace("\r", "\n"))
        if match:
            return Path(os.path.normpath(source.root / match[1]))
    return Path(DEFAULT_STATE_DIR)


def load_last_good(state_dir: Path) -> Snapshot:
    """The configuration that was applied last; raises EdgedError or OSError when there is none."""
    return load_saved(state_dir / _LAST_GOOD)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by rename, with the file and its folder synced."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", opener=_open_private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
