"""A file that is being fetched: what of it is there already, and whether that is right.

Decides from which byte to go on. What lies there from before is hashed again before it counts, each
chunk is held against its digest as soon as it is whole, and nothing behind the stated size is ever
written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import msgspec

from edged import decoding
from edged.errors import ApplyError, DigestMismatchError
from edged.system.atomic import sync_directory, write_atomically

_READ_BYTES = 1 << 20
_NOTE_CAP_BYTES = 4 << 10


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a file must be.

    Args:
        size: bytes.
        sha256: of all of it, in hex.
        chunk_size: bytes of a chunk, the last may be shorter; 0 where chunks have no digests.
        chunks: sha256 of each, in hex.
    """

    size: int
    sha256: str
    chunk_size: int = 0
    chunks: tuple[str, ...] = ()


class _Note(msgspec.Struct, frozen=True):
    """Beside the file: what it is to become. One that holds anything else counts as none."""

    size: int
    sha256: str
    etag: str


class Partial:
    """An open file that grows to what is wanted; a context manager.

    Args:
        path: the file; its note lies beside it.
        wanted: what it must become.
    """

    def __init__(self, path: Path, wanted: Wanted) -> None:
        self.path, self.wanted = path, wanted
        self.at = self.came = 0
        self.etag = ""
        self._note = path.with_suffix(".json")
        self._whole = hashlib.sha256()
        self._chunk = hashlib.sha256()
        self._fd = -1

    def __enter__(self) -> Partial:  # noqa: PYI034 - Self is of Python 3.11
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        with self._disk():
            self._fd = os.open(self.path, flags, 0o600)
            try:
                if self._is_same_as_before():
                    self._count()
                else:
                    self.restart()
                self.remember(self.etag)
            except BaseException:
                os.close(self._fd)
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            os.fsync(self._fd)  # what was fetched over a slow line is not fetched twice
        os.close(self._fd)

    @property
    def is_whole(self) -> bool:
        """Whether every byte is there; ``finish`` says whether they are right."""
        return self.at == self.wanted.size

    @property
    def descriptor(self) -> int:
        """The open file, to look at what is there."""
        return self._fd

    def remember(self, etag: str) -> None:
        """Note which state of the source's file this is a part of; only strong tags say that."""
        self.etag = etag if etag.startswith('"') and len(etag) <= 256 else ""
        note = _Note(self.wanted.size, self.wanted.sha256, self.etag)
        with self._disk():
            write_atomically(self._note, msgspec.json.encode(note))

    def restart(self) -> None:
        """Throw away what is there."""
        self._cut(0)

    def append(self, data: bytes) -> None:
        """Add what came.

        Raises:
            DigestMismatchError: it is more than the file has, or a chunk is not what it must be;
                the chunk is thrown away, those before it stay.
        """
        self.came += len(data)
        if self.at + len(data) > self.wanted.size:
            raise DigestMismatchError(
                f"more comes than the {self.wanted.size} bytes that are stated"
            )
        with self._disk():
            view = memoryview(data)
            while view:
                room = self._room_in_chunk()
                part = view[:room]
                written = 0
                while written < len(part):
                    written += os.pwrite(self._fd, part[written:], self.at + written)
                self._take(part)
                view = view[room:]

    def finish(self) -> Path:
        """The whole file, synced.

        Raises:
            DigestMismatchError: its bytes are others than stated; all of it is thrown away.
        """
        if self._whole.hexdigest() != self.wanted.sha256:
            self.restart()
            raise DigestMismatchError("what came does not have the sha256 that is stated")
        with self._disk():
            os.fsync(self._fd)
            sync_directory(self.path.parent)
        return self.path

    def discard(self) -> None:
        """Leave nothing of it."""
        for path in (self.path, self._note):
            with contextlib.suppress(OSError):
                path.unlink()

    def _room_in_chunk(self) -> int:
        if not self.wanted.chunk_size:
            return self.wanted.size - self.at
        return self.wanted.chunk_size - self.at % self.wanted.chunk_size

    def _take(self, data: bytes | memoryview) -> None:
        """Count bytes that are in the file; at most up to the end of a chunk."""
        self._chunk.update(data)
        at = self.at + len(data)
        if self.wanted.chunk_size and (at % self.wanted.chunk_size == 0 or at == self.wanted.size):
            number = (at - 1) // self.wanted.chunk_size
            if self._chunk.hexdigest() != self.wanted.chunks[number]:
                self._cut(number * self.wanted.chunk_size)
                raise DigestMismatchError(
                    f"chunk {number + 1} of {len(self.wanted.chunks)} does not have its sha256"
                )
            self._chunk = hashlib.sha256()
        self._whole.update(data)
        self.at = at

    def _count(self) -> None:
        """Hash what lies there; of a chunk that is wrong, nothing counts."""
        size = min(os.fstat(self._fd).st_size, self.wanted.size)
        with contextlib.suppress(DigestMismatchError):
            while self.at < size:
                most = min(_READ_BYTES, size - self.at, self._room_in_chunk())
                data = os.pread(self._fd, most, self.at)
                if not data:
                    break
                self._take(data)
        os.ftruncate(self._fd, self.at)

    def _cut(self, at: int) -> None:
        """Go back to a byte; its chunk begins there."""
        with self._disk():
            os.ftruncate(self._fd, at)
            self._chunk, self._whole, self.at = hashlib.sha256(), hashlib.sha256(), 0
            while self.at < at:
                data = os.pread(self._fd, min(_READ_BYTES, at - self.at), self.at)
                if not data:
                    break
                self._whole.update(data)
                self.at += len(data)

    def _is_same_as_before(self) -> bool:
        try:
            with self._note.open("rb") as file:
                note = decoding.decode(file.read(_NOTE_CAP_BYTES), _Note)
        except (OSError, ValueError, msgspec.MsgspecError):
            return False
        is_same = (note.size, note.sha256) == (self.wanted.size, self.wanted.sha256)
        self.etag = note.etag if is_same else ""
        return is_same

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            way = ""
            if isinstance(exc, FileNotFoundError):
                state = self.path.parent.parent
                way = f"; make {state} first, for the daemon's user: start it once, or mkdir -p"
            raise ApplyError(f"cannot write to {self.path.parent}: {exc.strerror}{way}") from exc
