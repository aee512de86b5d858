"""What is noted on disk about generations: their numbers, the last good configuration, the slots.

Everything is written so that a power cut leaves the old or the new, wholly.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from pathlib import Path

from edged.config.load import Snapshot, load, load_saved, save
from edged.config.problems import ConfigProblemsError
from edged.errors import EdgedError
from edged.serving.dataplane import ServingTable
from edged.store.repository import Repository

log = logging.getLogger("edged.reload")

_LAST_GOOD = "last-good"
_GENERATION = "generation.json"
DEFAULT_STATE_DIR = "/var/lib/edged"


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
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            document = json.loads(path.read_bytes())
            number, last = int(document["generation"]), str(document["digest"])
        if last == digest and number > 0:
            return number
        data = json.dumps({"generation": number + 1, "digest": digest}).encode()
        write_atomically(path, data)
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
            if serving is None or serving is route.fallback:
                continue
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

    $STATE_DIRECTORY (systemd) goes first; then a line ``state_dir:`` at the top level of
    edged.yaml, read as text, so that a syntax error elsewhere does not hide the last good
    configuration; then the default.
    """
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    path = config_path / "edged.yaml" if config_path.is_dir() else config_path
    try:
        text = path.read_bytes()[: 1 << 20].decode("utf-8", "replace")
    except OSError:
        return Path(DEFAULT_STATE_DIR)
    match = re.search(
        r"^state_dir:[ \t]*[\"']?([^\"'#\n]+?)[\"']?[ \t]*(?:#.*)?$", text, re.MULTILINE
    )
    return path.parent / match[1] if match else Path(DEFAULT_STATE_DIR)


def load_last_good(state_dir: Path) -> Snapshot:
    """The configuration that was applied last; raises EdgedError or OSError when there is none."""
    return load_saved(state_dir / _LAST_GOOD)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by rename, with the file and its folder synced."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
