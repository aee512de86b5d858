"""What is noted on disk about generations: their numbers, the last good configuration, the slots.

Everything is written so that a power cut leaves the old or the new, wholly.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from edged import decoding
from edged.config.documents import FOLDER
from edged.config.load import Snapshot, load, load_saved, save, takes_documents
from edged.config.problems import ConfigProblemsError
from edged.config.source import read_source
from edged.errors import EdgedError
from edged.generation.content import content_digest
from edged.generation.documents import Documents
from edged.generation.history import History, Order, Rejection
from edged.generation.kept import is_there, is_trusted
from edged.generation.trust_back import narrow, regained
from edged.serving.dataplane import ServingTable
from edged.serving.release import ServedRelease
from edged.store.repository import Repository
from edged.system.atomic import SHORT, write_atomically
from edged.system.breath import breathe
from edged.telemetry.crash import CrashMark

log = logging.getLogger("edged.reload")

_LAST_GOOD = "last-good"
_GENERATION = "generation.json"
HISTORY = "history"
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
        self._activated: dict[str, str] = {}
        self._unnoted = 0
        self.history = History(state_dir / HISTORY)
        self.documents = Documents(state_dir / FOLDER)

    def next_generation(self, digest: str) -> int:
        """The number for a configuration: one more than the last, or the same for the same.

        Raises:
            OSError: it cannot be read or written; then no number was used.
        """
        number, last = self._last_generation()
        if last == digest and number > 0:
            return number
        number = max(number, self._unnoted) + 1
        noted = msgspec.json.encode(_Noted(number, digest))
        write_atomically(self._directory / _GENERATION, noted)
        return number

    def first_generation(self, digest: str) -> tuple[int, str]:
        """The number at a start, which no full disk keeps from answering.

        Returns:
            The number, and why it could not be noted: then no other gets it in this process.
        """
        try:
            return self.next_generation(digest), ""
        except OSError as exc:
            with contextlib.suppress(OSError):
                self._unnoted = max(self._unnoted, self._last_generation()[0])
            self._unnoted += 1
            return self._unnoted, exc.strerror or str(exc)

    def _last_generation(self) -> tuple[int, str]:
        """The last number and whose it is; raises OSError where that cannot be known now."""
        number, last = 0, ""
        try:
            noted = decoding.decode((self._directory / _GENERATION).read_bytes(), _Noted)
            number, last = noted.generation, noted.digest
        except (OSError, msgspec.MsgspecError) as exc:
            if isinstance(exc, OSError) and exc.errno in SHORT:
                raise  # a number is never given twice
        if number == 0:  # lost: what the history has is not numbered a second time
            number = max((one.generation for one in self.history.entries()), default=0)
        return number, last

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
        # That one proved good is noted once. Forgotten meanwhile: whatever fails is done anew.
        before, self._activated = self._activated, {}
        activated: dict[str, str] = {}
        for route in table.routes.values():
            breathe()
            serving = route.default_release()
            if not isinstance(serving, ServedRelease) or serving is route.fallback:
                continue
            if not serving.is_proven:
                continue  # a lazy one that was never run here is no good to fall back on
            digest = serving.key.digest
            is_current = repository.current(route.model) == digest
            if not is_current:
                repository.activate(route.model, digest)
            if not is_current or before.get(route.model) != digest:
                # Also for one that was activated before: a kill between the two lines would
                # otherwise leave it unproven, and set it aside at the third start.
                repository.mark_good(route.model, digest)
            activated[route.model] = digest
        self._activated = activated

    def raise_floors(self, table: ServingTable) -> None:
        """What serves proved good: releases that it says are not to be used any more are refused.

        Raises:
            OSError: it cannot be written.
        """
        wanted = {}
        for route in table.routes.values():
            breathe()
            serving = route.default_release()
            if isinstance(serving, ServedRelease) and serving.is_proven:
                floor = serving.manifest.floor
                if isinstance(floor, int):
                    wanted[route.model] = floor
        for model, release in self._repository.floors.rise(wanted).items():
            log.info("model %s: no release before %d is accepted any more", model, release)


def load_for_boot(config_path: Path, state_dir: Path) -> tuple[Snapshot, tuple[str, ...]]:
    """The configuration to start with: the files, or the last good one when they are broken.

    The last good one also when the files were tried and set aside, and the generation that an
    operator ordered back. Only reads: whoever starts need not be the one that gets the directory.

    Returns:
        The snapshot, and what is wrong with the files (empty when they were taken).

    Raises:
        ConfigProblemsError: the files are broken and there is no last good configuration.
    """
    history = History(state_dir / HISTORY)
    crash = CrashMark(state_dir).peek()
    order = history.ordered() or Order()
    ordered = ordered_back(history, order.generation)
    try:
        files = load(config_path, state_dir / FOLDER)
    except ConfigProblemsError as exc:
        saved = ordered or _last_good(history, state_dir, crash)
        if saved is None:
            raise
        return saved, tuple(str(problem) for problem in exc.problems)
    if ordered is not None:
        if again := regained(ordered, files):
            log.warning("%s: %s", went_back_to(ordered), again)
        return ordered, (set_aside(went_back_to(ordered)),)
    marks = history.marks()
    if order.again or (not marks.rejected and marks.trying is None):
        return files, ()
    digest = content_digest(files)
    reason = history.doubt(digest, has_crashed=bool(crash))
    rejection = marks.rejection(digest)
    is_ordered = rejection is not None and rejection.is_ordered
    back = _way_back(history, files, digest, state_dir, is_ordered=is_ordered) if reason else None
    return (files, ()) if back is None else (back, (set_aside(reason),))


def settle_boot(config_path: Path, snapshot: Snapshot, record: Record, crash: str) -> None:
    """Note what ``load_for_boot`` decided, once the state directory is ours.

    Raises:
        OSError: it cannot be noted.
        ApplyError: what is known of documents is damaged.
    """
    history, documents = record.history, record.documents
    order = history.ordered()
    if order is not None and order.again:
        history.lift(files_digest(config_path, documents))
    if snapshot.kept is not None:
        digest = files_digest(config_path, documents)
        reason = history.doubt(digest, has_crashed=bool(crash)) if digest else ""
        if order is not None and order.generation is not None:
            history.lift(snapshot.kept.digest)
            reason = went_back_to(snapshot)
        if reason and digest not in ("", snapshot.kept.digest):
            before = history.marks().rejection(digest)
            is_ordered = order is not None and order.generation is not None
            is_ordered = is_ordered or (before is not None and before.is_ordered)
            history.reject(Rejection(digest, 0, time.time(), reason, is_ordered))
    history.forget_order()
    documents.settle_boot(snapshot)


def files_digest(config_path: Path, documents: Documents) -> str:
    """The content of the files; empty when they are broken."""
    try:
        return content_digest(load(config_path, documents.directory))
    except ConfigProblemsError:
        return ""


def set_aside(reason: str) -> str:
    """Why files that are well by themselves are not in effect."""
    return f"the files were set aside: {reason}; change them, or try again: edged apply --again"


def went_back_to(snapshot: Snapshot) -> str:
    """The reason where an operator wanted it."""
    number = snapshot.kept.generation if snapshot.kept is not None else 0
    return f"an operator went back to generation {number}"


def ordered_back(history: History, generation: int | None) -> Snapshot | None:
    """The generation that an operator ordered back, if it can be had; 0 for the one before."""
    if not generation:
        return None if generation is None else history.before()
    try:
        return history.read(generation)
    except (ConfigProblemsError, OSError) as exc:
        log.error("generation %d cannot be gone back to: %s", generation, exc)
        return None


def _last_good(history: History, state_dir: Path, crash: str) -> Snapshot | None:
    """With its bundles where the history has it; else the copy of what was applied last.

    Also where nobody whom the history's one still trusts signed anything of it, and nothing older
    either: a key was exchanged, and a cut came before the history had it, or it never came to rest.
    """
    found = history.last_applied(has_crashed=bool(crash))
    last = None
    with contextlib.suppress(EdgedError, OSError):
        last = load_saved(state_dir / _LAST_GOOD)
    if found is None or last is None:
        return found or last
    # It may be older: whom the last one trusts no more stays out.
    back = narrow(found, last)
    if is_trusted(back, state_dir):
        return back
    assert found.kept is not None
    for one in history.last_good(found.kept.digest):
        older = narrow(one, last)
        if is_there(older, state_dir) and is_trusted(older, state_dir):
            return older
    return last


def _way_back(
    history: History, files: Snapshot, digest: str, state_dir: Path, *, is_ordered: bool
) -> Snapshot | None:
    """The newest good one whose bundles are in the store; without any, the newest.

    One of which nobody whom it still trusts signed anything is no way: it would serve nothing. Only
    what an operator went back to last trusts whom it did in its time.
    """
    last = next((one.digest for one in history.entries()[-1:]), "") if is_ordered else ""
    ways = []
    for one in history.last_good(digest):
        assert one.kept is not None
        back = one if one.kept.digest == last else narrow(one, files)
        if not is_there(back, state_dir):
            ways.append(back)
        elif is_trusted(back, state_dir):
            return back
    return ways[0] if ways else None


def load_in_effect(config_path: Path, state_dir: Path | None = None) -> Snapshot:
    """The files, with the document that came over MQTT where one may.

    Args:
        config_path: edged.yaml or its directory.
        state_dir: of the device; default: ``find_state_dir``.

    Raises:
        ConfigProblemsError: carries every problem found.
    """
    snapshot = load(config_path)
    if not takes_documents(snapshot):
        return snapshot
    return load(config_path, (state_dir or find_state_dir(config_path)) / FOLDER)


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


def load_or_last_good(config_path: Path, state_dir: Path) -> Snapshot:
    """The files; while they are broken, what the daemon goes by.

    Raises:
        ConfigProblemsError: they are broken, and nothing was applied yet.
    """
    try:
        return load(config_path)
    except ConfigProblemsError:
        try:
            return load_last_good(state_dir)
        except (EdgedError, OSError):
            pass
        raise


def do_all(notes: Iterable[Callable[[], object]]) -> None:
    """Do each whatever becomes of the others, then raise the first of what went wrong.

    One after the other: side by side they gain nothing on the disk, and each thread that computes
    beside the event loop has it wait for the interpreter once more.
    """
    errors: list[Exception] = []
    for note in notes:
        try:
            note()
        except Exception as exc:
            errors.append(exc)
    for error in errors:
        raise error
