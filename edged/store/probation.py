"""What this device learnt of each release: its trials, the deaths it was blamed for, quarantine.

One small file a digest, so that nothing about one release can spoil another's:

    probation/<digest>.json

Decides when a release may not be loaded any more. A release that is loaded into the daemon is *on
probation* until it has served for a while; when the daemon dies by its own doing meanwhile, the
release is blamed, and the third start in a row leaves it out. A death that came from outside
(SIGKILL, a power cut) blames nobody. Written before a load and cleared after it, each atomically.
Source: Mender's store counter; SECURITY rule "attempts are written before the load".
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from edged import decoding
from edged.errors import QuarantinedError
from edged.store.slots import check_digest
from edged.system.atomic import SHORT, make_directory, write_atomically

log = logging.getLogger("edged.store")

DEATHS_CAP = 2
"""So many deaths in a row are coincidence or a bad release; the third start does not try again."""
_FILE_CAP_BYTES = 64 << 10


class Quarantine(Struct, frozen=True, kw_only=True):
    """Why a release is left out.

    Args:
        reason: in words for an operator.
        at: wall-clock time, seconds since 1970.
    """

    reason: str
    at: float


class Standing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one release.

    Args:
        model: the model's name, for people who look into the file.
        release: its number, likewise.
        passed: the runtimes, with their versions, on which its trial went well.
        deaths: of the daemon, in a row, while the release was on probation.
        is_on_probation: loaded, or being loaded, and not proven yet.
        quarantine: set when it may not be loaded.
    """

    model: str = ""
    release: int = 0
    passed: tuple[str, ...] = ()
    deaths: int = 0
    is_on_probation: bool = False
    quarantine: Quarantine | None = None


_LOST_CAP = 64
"""Releases in quarantine that are not in the store any more, and are remembered."""
_PASSED_CAP = 16
"""Versions of runtimes come and go; the last few are enough, where a bundle has two precisions
too."""


def after_start(standing: Standing, *, has_crashed: bool) -> Standing:
    """What a start makes of a standing, given how the last run of the daemon ended."""
    if not standing.is_on_probation:
        return standing
    deaths = standing.deaths + 1 if has_crashed else standing.deaths
    return msgspec.structs.replace(standing, deaths=deaths, is_on_probation=False)


class Probation:
    """The standings of one state directory. Thread-safe: a change is one step, from read to synced.

    Args:
        directory: made when missing; on a read-only disk nothing is noted, and all may load.
        now: wall clock, seconds since 1970.
    """

    def __init__(self, directory: Path, now: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._now = now
        self._mutex = threading.RLock()
        self._unwritten: dict[str, Standing] = {}
        """What the disk did not take; it holds for the life of this process."""
        self._condemned: dict[str, tuple[str, int, Quarantine]] = {}
        """Quarantine that holds already and is to be written: model and release with it."""
        self._attempts: dict[str, int] = {}

    def start(self, *, has_crashed: bool, known: Collection[str]) -> None:
        """Apply the rule of deaths, and forget releases that are in the store no longer."""
        standings = self.all()
        lost = [one for one in standings.items() if one[0] not in known and one[1].quarantine]
        # What did harm is not forgotten with its bundle, which may come once more.
        lost.sort(key=lambda one: one[1].quarantine.at if one[1].quarantine else 0.0)
        kept = {digest for digest, _ in lost[-_LOST_CAP:]}
        for digest, standing in standings.items():
            if digest in kept:
                continue
            if digest not in known:
                with contextlib.suppress(OSError):
                    self._path(digest).unlink()
                self._unwritten.pop(digest, None)
                continue
            after = after_start(standing, has_crashed=has_crashed)
            if after != standing:
                self._put(digest, after)
                if has_crashed:
                    log.warning(
                        "model %s release %d was on probation when the daemon died (%d in a row)",
                        after.model,
                        after.release,
                        after.deaths,
                    )

    def all(self) -> Mapping[str, Standing]:
        """Every standing on disk, by digest; what cannot be read counts as unknown."""
        try:
            names = sorted(path.name for path in self._directory.iterdir())
        except OSError:
            return {}
        digests = [name.removesuffix(".json") for name in names if name.endswith(".json")]
        return {digest: self.get(digest) for digest in digests if _is_digest(digest)}

    def get(self, digest: str) -> Standing:
        """What is known of a release; the disk is asked, since an operator may have lifted it."""
        # First what is to be written: it leaves this memory when it is on disk, on another thread.
        condemned = self._condemned.get(digest)
        standing = self._unwritten.get(digest) or self._read(digest)
        if condemned is None:
            return standing
        return msgspec.structs.replace(standing, quarantine=condemned[2])

    def _read(self, digest: str) -> Standing:
        """What is on disk; what cannot be read for a while may be of a release that does harm."""
        try:
            return self._on_disk(digest)
        except OSError as exc:
            reason = f"what is known of it cannot be read at the moment ({exc.strerror})"
            return Standing(quarantine=Quarantine(reason=reason, at=self._now()))

    def _on_disk(self, digest: str) -> Standing:
        try:
            with self._path(digest).open("rb") as file:
                data = file.read(_FILE_CAP_BYTES)
            return decoding.decode(data, Standing)
        except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as exc:
            if isinstance(exc, OSError) and exc.errno in SHORT:
                raise
            return Standing()

    def admit(self, digest: str) -> None:
        """Let a release load, unless it is in quarantine.

        Raises:
            QuarantinedError: with the reason and the way back.
        """
        standing = self.get(digest)
        if standing.quarantine is not None:
            raise QuarantinedError(
                f"in quarantine: {standing.quarantine.reason}; to try it again: "
                f"edged quarantine --lift {digest[:12]}, then reload"
            )

    def begin(self, digest: str, model: str, release: int) -> None:
        """Note that a release is about to be loaded into this very process.

        Raises:
            QuarantinedError: it took the daemon down too often.
        """
        with self._mutex:
            standing = self.get(digest)
            if standing.deaths >= DEATHS_CAP:
                self.quarantine(
                    digest,
                    model,
                    release,
                    f"the daemon died {standing.deaths} times in a row while it was being loaded "
                    "or had just been",
                )
                self.admit(digest)
            self._attempts[digest] = self.attempt(digest) + 1
            self._change(digest, model, release, is_on_probation=True)

    def attempt(self, digest: str) -> int:
        """The number of the last ``begin`` of a release in this process; 0 before the first."""
        return self._attempts.get(digest, 0)

    def survived(self, digest: str, attempt: int) -> None:
        """Note that a release has served for long enough, unless it was begun again since."""
        with self._mutex:
            standing = self.get(digest)
            if attempt == self.attempt(digest) and (standing.is_on_probation or standing.deaths):
                self._change(
                    digest, standing.model, standing.release, is_on_probation=False, deaths=0
                )

    def release_unharmed(self, digest: str, attempt: int | None = None) -> None:
        """The release is not in the daemon, and the daemon lives.

        Args:
            digest: of the release.
            attempt: does nothing when it was begun again since; None for the last one.
        """
        with self._mutex:
            standing = self.get(digest)
            if standing.is_on_probation and attempt in (None, self.attempt(digest)):
                self._change(digest, standing.model, standing.release, is_on_probation=False)

    def has_passed(self, digest: str, runtime: str) -> bool:
        """Whether its trial went well on this runtime and version."""
        return runtime in self.get(digest).passed

    def note_passed(self, digest: str, model: str, release: int, runtime: str) -> None:
        """Remember that, so that a restart does not pay for it again."""
        with self._mutex:
            passed = tuple(name for name in self.get(digest).passed if name != runtime)
            self._change(digest, model, release, passed=(*passed, runtime)[-_PASSED_CAP:])

    def quarantine(self, digest: str, model: str, release: int, reason: str) -> None:
        """Leave a release out from now on."""
        self.condemn(digest, model, release, reason)
        self.write_condemned()

    def condemn(self, digest: str, model: str, release: int, reason: str) -> None:
        """The same without waiting for the disk: it holds at once, and is to be written."""
        check_digest(digest)
        log.error("model %s release %d is in quarantine: %s", model, release, reason)
        self._condemned[digest] = (model, release, Quarantine(reason=reason, at=self._now()))

    def write_condemned(self) -> None:
        """Bring to disk what was condemned."""
        with self._mutex:
            for digest, (model, release, mark) in list(self._condemned.items()):
                if self._change(digest, model, release, quarantine=mark, is_on_probation=False):
                    del self._condemned[digest]

    def lift(self, digest: str) -> None:
        """Let a release be tried again, with a clean sheet.

        Raises:
            OSError: the file cannot be removed.
        """
        with self._mutex:
            self._unwritten.pop(digest, None)
            self._condemned.pop(digest, None)
            self._path(digest).unlink(missing_ok=True)

    def _change(self, digest: str, model: str, release: int, **changes: object) -> bool:
        """Note something; False where that would lose what is known already."""
        try:
            before = self._unwritten.get(digest) or self._on_disk(digest)
        except OSError as exc:
            log.warning("what was learnt of a release is not noted: %s", exc.strerror)
            return False
        after = msgspec.structs.replace(before, model=model, release=release, **changes)
        # What is on disk was synced when it was written. A reload back and forth costs no wear.
        if after != before or digest in self._unwritten:
            self._put(digest, after)
        return True

    def _put(self, digest: str, standing: Standing) -> None:
        with self._mutex:
            try:
                make_directory(self._directory)
                path = self._path(digest)
                write_atomically(path, msgspec.json.encode(standing), "probation")
                self._unwritten.pop(digest, None)
            except OSError as exc:
                self._unwritten[digest] = standing
                # A full or read-only disk must not keep a model from serving.
                log.warning("what was learnt of a release is not noted on disk: %s", exc.strerror)

    def _path(self, digest: str) -> Path:
        return self._directory / f"{check_digest(digest)}.json"


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)
