"""Documents that came over MQTT, on disk: which is in effect, and what became of the last one.

Writes so that a power cut leaves the old or the new; the layout is ``config/documents.py``'s. Which
versions were used is never forgotten with a document: a removed one does not come again by itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edged.config.desired import version_in, version_of
from edged.config.documents import (
    REMOVED,
    STATE,
    State,
    Verdict,
    What,
    file_name,
    read_document,
    read_state,
)
from edged.config.snapshot import Snapshot
from edged.errors import ApplyError
from edged.faults import fault
from edged.system.atomic import sync_directory, write_atomically

log = logging.getLogger("edged.reload")

TRIES_CAP = 2
"""A document with which the daemon died twice is not begun a third time."""
KEPT = 5
_PROBLEMS_CAP = 50
_LONGEST_PROBLEM = 400


class Documents:
    """The documents of one state directory. Every call but ``trying`` waits for the disk.

    Args:
        directory: made when something is written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._mutex = threading.RLock()
        self.trying = 0
        """The version that is in effect and has to prove itself; 0 for none."""

    def state(self) -> State:
        """What is known.

        Raises:
            OSError: it cannot be read.
            ApplyError: it is damaged.
        """
        try:
            return read_state(self.directory)
        except ValueError as exc:
            # Believed empty, it would let every document of before in again.
            raise ApplyError(f"{exc}; no document is taken until somebody removes it") from None

    def begin(self, version: int, sha256: str, text: str, base: str) -> Verdict:
        """Note, before anything of a document is built, that its version is used now.

        Args:
            version: its own.
            sha256: of the message.
            text: the document.
            base: the digest of the configuration that it changes.

        Raises:
            OSError: it cannot be written.
            ApplyError: what is known of versions is damaged.
        """
        with self._mutex:
            state = self.state()
            before = state.verdict
            is_again = before is not None and before.sha256 == sha256
            tries = before.tries + 1 if before is not None and is_again else 1
            self._remove_old(version, state.seen, state.current)
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fault("desired.before")
            data = text.encode("utf-8", "surrogatepass")
            write_atomically(self.directory / file_name(version), data)
            fault("desired.written")
            verdict = Verdict(version, sha256, "trying", time.time(), (), tries, base)
            self._write(State(max(state.seen, version), state.current, verdict))
            fault("desired.begun")
            return verdict

    def take(self, version: int) -> None:
        """A document lies beside the operator's files from now on; raises OSError."""
        with self._mutex:
            state = self.state()
            verdict = state.verdict
            if verdict is not None:
                verdict = msgspec.structs.replace(verdict, tries=0)
            fault("desired.applied")
            self._write(State(state.seen, version, verdict))
            fault("desired.taken")
            self._forget_removal()

    def decide(self, what: What, problems: tuple[str, ...] = ()) -> None:
        """Note what became of the last version; raises OSError."""
        with self._mutex:
            state = self.state()
            if state.verdict is None:
                return
            said = tuple(one[:_LONGEST_PROBLEM] for one in problems[:_PROBLEMS_CAP])
            verdict = Verdict(state.verdict.version, state.verdict.sha256, what, time.time(), said)
            self._write(State(state.seen, state.current, verdict))
            fault("desired.decided")

    def follow(self, files: Mapping[str, bytes], reason: str) -> None:
        """A generation came back: the document is the one that it had, if it had one.

        Raises:
            OSError: it cannot be noted.
            ApplyError: what is known of versions is damaged.
        """
        with self._mutex:
            state, version = self.state(), version_in(files)
            if state.current == version:
                return
            if version:
                (data,) = [data for name, data in files.items() if version_of(name) == version]
                write_atomically(self.directory / file_name(version), data)
            verdict = state.verdict
            if verdict is not None and verdict.version != version and self._is_held(state):
                verdict = Verdict(
                    verdict.version, verdict.sha256, "returned", time.time(), (reason,)
                )
            fault("desired.returning")
            self._write(State(state.seen, version, verdict))
            fault("desired.returned")
            self.trying = 0

    def _is_held(self, state: State) -> bool:
        """Whether the last message is on trial, or its document is in effect."""
        verdict = state.verdict
        if verdict is None or verdict.what != "accepted":
            return verdict is not None and verdict.what == "trying"
        # An empty document is not among the files, and is in effect all the same.
        return verdict.version == state.current and bool((self.read(state.current) or "").strip())

    def order_removal(self) -> bool:
        """An operator's word: have no document; whether there was one. Raises OSError."""
        if not self.state().current:
            return False
        path = self.directory / REMOVED
        write_atomically(path, b"")
        if os.geteuid() == 0:  # the daemon is another user, and has to remove it
            owner = self.directory.stat()
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        return True

    def settle_removal(self) -> None:
        """Carry out that word, if it was given; raises OSError or ApplyError."""
        with self._mutex:
            if not (self.directory / REMOVED).exists():
                return
            state = self.state()
            verdict = state.verdict
            if verdict is not None and verdict.version == state.current:
                said = ("an operator removed it",)
                verdict = Verdict(verdict.version, verdict.sha256, "removed", time.time(), said)
            self._write(State(state.seen, 0, verdict))
            self._forget_removal()

    def settle_boot(self, snapshot: Snapshot) -> None:
        """A daemon starts with this configuration.

        Raises:
            OSError: what that means cannot be noted.
            ApplyError: what is known of versions is damaged.
        """
        with self._mutex:
            self.settle_removal()
            current, version = self.state().current, version_in(snapshot.files)
            if snapshot.kept is not None and current and version != current:
                self.follow(snapshot.files, "the daemon did not come to rest with it")
            verdict = self.state().verdict
            is_trying = verdict is not None and verdict.what == "trying"
            is_taken = verdict is not None and verdict.version == self.state().current
            self.trying = verdict.version if verdict is not None and is_trying and is_taken else 0

    def read(self, version: int) -> str | None:
        """A document as it came; None when it is not there any more."""
        found = read_document(self.directory, version)
        return found.data.decode("utf-8", "surrogatepass") if found is not None else None

    def _write(self, state: State) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.directory / STATE, msgspec.json.encode(state))

    def _forget_removal(self) -> None:
        path = self.directory / REMOVED
        if path.exists():
            path.unlink(missing_ok=True)
            sync_directory(self.directory)

    def _remove_old(self, *used: int) -> None:
        """Make room; what is in effect stays, and every generation has its own copy."""
        with contextlib.suppress(OSError):
            found = sorted(self.directory.glob("version-*.yaml"))
            for path in found[:-KEPT]:
                if path.name not in {file_name(version) for version in used}:
                    path.unlink(missing_ok=True)
