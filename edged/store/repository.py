"""The store of a device: bundles come in whole or not at all, and slots say which one serves.

Decides where things lie and in which order they reach the disk:

    store/<digest>/                 verified bundles, each under the hash of its manifest
    staging/<random>/               being written; emptied at every start
    slots/<model>/current|previous  links into the store
    activation.log                  what was tried and what proved good (``activation_log.py``)
    floor.json  floor-2.json        releases that are accepted no more (``floors.py``)
    lock                            held while open: one daemon a state directory

Every file is fsynced, then its folder, then the rename, then the parent. Which releases leave is
decided in ``collecting.py``. Source: RAUC's order of steps, and the crash rules in
``activation.py``.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

from edged.errors import BundleError, EdgedError
from edged.faults import fault
from edged.store.activation import History, Record, Verdict, judge
from edged.store.activation_log import ActivationLog
from edged.store.bundle import (
    Bundle,
    keep_signatures,
    stage_bundle,
)
from edged.store.collecting import Collector
from edged.store.floors import Floors, FloorsNow
from edged.store.intact import Intact
from edged.store.leftovers import remove_leftovers
from edged.store.seen import SEEN, Look, look_of
from edged.store.slots import DIRECTORY_FLAGS, Slots, check_digest, check_model
from edged.store.stored import StoredRelease, open_release
from edged.store.targets import check_here
from edged.store.trust_store import TrustStore
from edged.store.verified import Verified

__all__ = ["Repository", "StoredRelease"]

log = logging.getLogger("edged.store")

_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Repository:
    """The bundles of one state directory. Thread-safe; open it once.

    Args:
        state_dir: made when missing, with mode 0700.
    """

    def __init__(self, state_dir: Path) -> None:
        self._root = self.state_dir = state_dir
        self._store = state_dir / "store"
        self._staging = state_dir / "staging"
        self._mutex = threading.RLock()
        self._fds = contextlib.ExitStack()
        self._activations = ActivationLog(-1)
        self._proven_whole: set[str] = set()
        self._intact = Intact(self._store)
        self._verified = Verified()
        self._root_fd = self._store_fd = -1
        self._slots = Slots(-1)
        self.is_read_only = False
        self.floors = Floors(state_dir)
        self.collector = Collector(state_dir, self._mutex, lambda: self._slots, self._proven_whole)

    def open(self) -> None:
        """Take the lock, clean up after a crash, and apply the crash rules.

        Raises:
            BundleError: another process holds the directory, or it cannot be written.
        """
        with self._mutex:
            try:
                self._open()
            except OSError as exc:
                self._fds.close()
                raise BundleError(
                    f"the state directory {self._root} cannot be used: {exc.strerror}"
                ) from exc
            except BaseException:
                self._fds.close()
                raise

    def close(self) -> None:
        """Give the lock back."""
        with self._mutex:
            self._fds.close()

    def import_bundle(
        self,
        path: Path,
        trust: TrustStore,
        device: Mapping[str, str] | None = None,
        *,
        look: Look | None = None,
        floors: FloorsNow | None = None,
    ) -> StoredRelease:
        """Verify a bundle and keep it; a bundle that is already there is only verified.

        Who asks for hundreds looks at each file, and reads the floors, once for all of it.

        Raises:
            SignatureError: not enough trusted signatures.
            IncompatibleError: it needs a newer edged, or more room than there is, or is below the
                model's floor.
            BundleError: any other flaw. Nothing stays behind.
        """
        look = look or SEEN.known(path)
        floors = floors or self.floors.now()
        # With hundreds of models, nearly all that a reload asks for is as it was.
        if look is not None:
            self._admit(look, trust, device, floors)
            stored = self._intact.find(look) or self._find_kept(look)
            if stored is not None:
                return stored
        with SEEN.opened(path) as bundle, self._mutex:
            said = look_of(bundle)
            self._admit(said, trust, device, floors)
            stored = self._find_kept(said)
            if stored is not None:
                return stored
            try:
                self._take_in(bundle)
            except OSError as exc:
                raise BundleError(f"the bundle cannot be stored: {exc.strerror}") from exc
            return self._found_whole(said)

    def is_as_found(self, look: Look) -> bool:
        """Whether a bundle's release lies in the store as it did when it was found whole."""
        return self._intact.find(look) is not None

    def release(self, digest: str) -> StoredRelease:
        """A release that is in the store.

        Raises:
            BundleError: it is not, or its manifest was changed.
        """
        return open_release(self._store, digest)

    def digests(self) -> list[str]:
        """Every release in the store, whole or not."""
        try:
            return sorted(name for name in os.listdir(self._store_fd) if len(name) == 64)  # noqa: PTH208
        except OSError:
            return []

    def current(self, model: str) -> str | None:
        """The digest of the release that serves, as the disk has it."""
        return self._slots.read(model)[0]

    def previous(self, model: str) -> str | None:
        """The digest of the release that served before."""
        return self._slots.read(model)[1]

    def activate(self, model: str, digest: str) -> None:
        """Let a release be the one that serves from the next start on; crash-safe.

        Raises:
            BundleError: it is not in the store as a whole, or the disk does not take it.
        """
        check_model(model)
        if not self.release(digest).is_whole():
            raise BundleError(f"release {digest[:12]} is damaged in the store; import it again")
        with self._mutex:
            current, previous = self._slots.read(model)
            if current == digest:
                return
            record = Record(
                event="try", model=model, digest=digest, current=current, previous=previous
            )
            try:
                self._activations.append(record)
                fault("activate.logged")
                self._slots.swap(model, digest, current)
            except OSError as exc:
                raise BundleError(
                    f"release {digest[:12]} cannot be activated: {exc.strerror}"
                ) from exc

    def mark_good(self, model: str, digest: str) -> None:
        """Note that a release proved itself; from now on crashes are not held against it.

        May be called as often as one likes; only the first writes.
        """
        check_model(model)
        check_digest(digest)
        with self._mutex:
            last = self._activations.history.last.get(model)
            if last is not None and last.digest == digest and last.event == "good":
                return
            try:
                self._activations.append(Record(event="good", model=model, digest=digest))
            except OSError as exc:
                raise BundleError(f"the activation log cannot be written: {exc.strerror}") from exc
            fault("good.logged")

    def is_set_aside(self, digest: str) -> bool:
        """Whether a release failed to prove itself in several starts; activating tries it again."""
        return digest in self._activations.history.bad

    def _open(self) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root_fd = self._keep(os.open(self._root, DIRECTORY_FLAGS))
        self._activations = ActivationLog(self._root_fd)
        if os.fstatvfs(self._root_fd).f_flag & os.ST_RDONLY:
            self._open_read_only()
            return
        self._lock(_LOCK_FLAGS)
        for name in ("store", "staging", "slots"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=self._root_fd)
        os.fsync(self._root_fd)
        self._store_fd = self._keep(os.open("store", DIRECTORY_FLAGS, dir_fd=self._root_fd))
        self._slots = Slots(self._keep(os.open("slots", DIRECTORY_FLAGS, dir_fd=self._root_fd)))
        self._empty_staging()
        self._recover()

    def _open_read_only(self) -> None:
        """Worn flash is mounted read-only: nothing is cleaned up, and no crash rule applied."""
        self.is_read_only = True
        self._lock(os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._store_fd = self._keep(os.open("store", DIRECTORY_FLAGS, dir_fd=self._root_fd))
        self._slots = Slots(self._keep(os.open("slots", DIRECTORY_FLAGS, dir_fd=self._root_fd)))
        self._activations.read()

    def _lock(self, flags: int) -> None:
        fd = self._keep(os.open("lock", flags, 0o600, dir_fd=self._root_fd))
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise BundleError(
                f"another edged uses the state directory {self._root}; stop it, or give this one a "
                "directory of its own"
            ) from exc

    def _empty_staging(self) -> None:
        for path in self._staging.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        remove_leftovers(self._root)

    def _recover(self) -> None:
        """Judge every model's slots by the log, and start a log that says the outcome."""
        history = self._activations.read()
        if history.damaged:
            log.warning("the activation log had %d damaged records", history.damaged)
        counted: dict[str, Record] = {}
        last: dict[str, Record] = {}
        bad = dict(history.bad)
        changes: list[tuple[str, Verdict]] = []
        for model in self._slots.models():
            verdict = self._judge(model, history.last.get(model))
            changes.append((model, verdict))
            if verdict.pending is not None:
                counted[model] = verdict.pending
            if verdict.record is not None and verdict.record.event == "bad":
                bad[verdict.record.digest] = verdict.record
            elif verdict.record is not None:
                last[model] = verdict.record
        # Counted before anything is changed or loaded: a start that dies in what follows counts,
        # and the next one still knows what was being undone.
        self._activations.rewrite(History({**last, **counted}, history.bad))
        fault("recover.counted")
        for model, verdict in changes:
            is_done = self._slots.restore(model, verdict.current, verdict.previous)
            if not is_done and verdict.pending is not None and verdict.record is None:
                last[model] = verdict.pending  # the next start does the rest
        fault("recover.restored")
        self._activations.rewrite(History(last, bad))
        self._activations.open()
        self._fds.callback(self._activations.close)

    def _judge(self, model: str, last: Record | None) -> Verdict:
        current, previous = self._slots.read(model)
        before = last.previous if last is not None else None
        intact = {d: self._is_intact(d) for d in (current, previous, before) if d is not None}
        verdict = judge(current, previous, last, intact)
        if verdict.reason:
            back = (verdict.current or "none")[:12]
            log.error("model %s: %s; back to %s", model, verdict.reason, back)
        return verdict

    def _is_intact(self, digest: str) -> bool:
        try:
            return self.release(digest).is_whole()
        except EdgedError:
            return False

    def _admit(
        self,
        look: Look,
        trust: TrustStore,
        device: Mapping[str, str] | None,
        floors: FloorsNow,
    ) -> None:
        self.collector.claim(look.digest)
        self._verified.check(look, trust)
        check_here(look.manifest, device)
        floors.check(look.manifest, look.digest)

    def _find_kept(self, look: Look) -> StoredRelease | None:
        """The release of a bundle that was verified, if the store has it as a whole."""
        with self._mutex:
            try:
                before = self._intact.stamps(look.digest, look.manifest)
                if not self._is_kept(look):
                    return None
                keep_signatures(self._store_fd, look.digest, look.signatures)
                self._intact.note(look, before)
            except OSError as exc:
                raise BundleError(f"the bundle cannot be stored: {exc.strerror}") from exc
            return self._found_whole(look)

    def _found_whole(self, look: Look) -> StoredRelease:
        self._proven_whole.add(look.digest)
        return StoredRelease(look.digest, look.manifest, self._store / look.digest)

    def _is_kept(self, look: Look) -> bool:
        """Whether the store has this bundle; hashed once in the life of this process."""
        try:
            stored = self.release(look.digest)
            if look.digest not in self._proven_whole:
                for member in look.manifest.members:
                    stored.read_member(member.name)
        except EdgedError:
            return False
        return stored.is_whole()

    def _take_in(self, bundle: Bundle) -> None:
        self.collector.make_room(bundle.manifest)
        staged = self._staging / secrets.token_hex(16)
        staged.mkdir(mode=0o700)
        try:
            stage_bundle(bundle, staged)
            fault("import.staged")
            self._move_damaged_away(bundle.digest)
            os.rename(staged, bundle.digest, dst_dir_fd=self._store_fd)
            fault("import.renamed")
            os.fsync(self._store_fd)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        self.collector.came(bundle.manifest)
        fault("import.done")

    def _move_damaged_away(self, digest: str) -> None:
        trash = self._staging / secrets.token_hex(16)
        try:
            os.rename(digest, trash, src_dir_fd=self._store_fd)
        except FileNotFoundError:
            return
        log.warning("stored release %s was damaged; it is replaced", digest[:12])
        fault("import.cleared")
        shutil.rmtree(trash, ignore_errors=True)

    def _keep(self, fd: int) -> int:
        self._fds.callback(os.close, fd)
        return fd
