"""System shared memory by name, for clients of the Open Inference Protocol: noted, then copied.

Decides whose memory a client may name, and how much. Nothing is kept open and nothing is ever
mapped: a region is a note, its file is opened again for each use, and must then be the very one
that was registered and still belong to the client; bytes are copied by ``pread`` and ``pwrite``.
So a client that shrinks its memory, replaces it or dies does harm to its own requests alone, and
leaves nothing behind but the note. Each user has regions of its own and sees no others.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from edged.config.listen import SharedMemoryConfig
from edged.config.listen_check import user_number
from edged.errors import DeniedError, InvalidRequestError, NotFoundError
from edged.protocol.frames import Buffer
from edged.protocol.oip_shared import OFF, Place, Region

_FOLDER = "/dev/shm"  # noqa: S108 - where POSIX shared memory is
_Opened = Iterator[tuple[int, os.stat_result]]
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class _Noted(NamedTuple):
    region: Region
    file: tuple[int, int]  # device and inode


class NamedMemory:
    """What all clients have registered.

    Args:
        folder: where the system keeps it.
    """

    def __init__(self, folder: str = _FOLDER) -> None:
        self._folder = folder
        self._config: SharedMemoryConfig | None = None
        self._tcp: frozenset[int] = frozenset()
        self._noted: dict[int | None, dict[str, _Noted]] = {}

    def allow(self, config: SharedMemoryConfig | None) -> None:
        """Follow a configuration; where it is None, all is forgotten."""
        self._config = config
        users = map(user_number, () if config is None else config.tcp_users)
        self._tcp = frozenset(user for user in users if user is not None)
        if config is None:
            self._noted.clear()

    @property
    def is_on(self) -> bool:
        """Whether anything can be registered."""
        return self._config is not None

    def of(self, user: int | None) -> OwnMemory | None:
        """The regions of a user; of None, who came over TCP, those of all who did.

        None where it is off.
        """
        return OwnMemory(self, user) if self._config is not None else None

    def limits(self) -> SharedMemoryConfig:
        """What holds now; DeniedError where it is off."""
        if self._config is None:
            raise DeniedError(OFF)
        return self._config

    def noted(self, user: int | None) -> dict[str, _Noted]:
        """What a user has registered."""
        return self._noted.setdefault(user, {})

    def owners(self, user: int | None) -> frozenset[int]:
        """Whose memory a client may name."""
        if user is not None:
            return frozenset((user,))
        if not self._tcp:
            raise DeniedError(
                "over TCP nobody knows whose memory it is: use the Unix socket, or name the users "
                "in listen.shared_memory.tcp_users"
            )
        return self._tcp

    @contextmanager
    def opened(self, key: str, user: int | None, *, writes: bool) -> _Opened:
        """The file of a key, while it is used.

        Raises:
            InvalidRequestError: there is none that the client may name. What keeps it from it is
                not said: it could be somebody else's secret.
        """
        owners = self.owners(user)
        name = key.removeprefix("/")
        if not name or "/" in name or "\0" in name or name in (".", ".."):
            raise InvalidRequestError(f'the key "{key[:64]}" is no name of shared memory')
        try:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                flags = (os.O_RDWR if writes else os.O_RDONLY) | _FLAGS
                file = os.open(name, flags, dir_fd=folder)
            finally:
                os.close(folder)
        except (OSError, ValueError):
            raise self._cannot(key, writes=writes) from None
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_uid not in owners:
                raise self._cannot(key, writes=writes)
            yield file, found
        finally:
            os.close(file)

    @staticmethod
    def _cannot(key: str, *, writes: bool) -> InvalidRequestError:
        what = "read and write" if writes else "read"
        return InvalidRequestError(
            f'Unable to open shared memory region: "{key[:64]}" is no memory of yours that this '
            f"server may {what}"
        )


class OwnMemory:
    """The regions of one user; satisfies ``oip_shared.Memory``.

    Args:
        all_: of everybody.
        user: whose.
    """

    def __init__(self, all_: NamedMemory, user: int | None) -> None:
        self._all = all_
        self._user = user

    def register(self, region: Region) -> None:
        """Take note of a region.

        Raises:
            DeniedError: the client may name none.
            InvalidRequestError: the name is taken, the memory is too short or not the client's, or
                there are too many regions.
        """
        limits = self._all.limits()
        with self._all.opened(region.key, self._user, writes=False) as (_, found):
            if region.offset + region.size > found.st_size:
                raise InvalidRequestError(
                    f'shared memory region "{region.name}": offset {region.offset} and byte_size '
                    f"{region.size} go beyond the {found.st_size} bytes of its memory"
                )
            file = (found.st_dev, found.st_ino)
        noted = self._all.noted(self._user)
        if region.name in noted and not self._is_stale(noted[region.name]):
            raise InvalidRequestError(f'shared memory region "{region.name}" already in manager')
        noted.pop(region.name, None)
        if not self._has_room(noted, region, limits):
            for name in [name for name, one in noted.items() if self._is_stale(one)]:
                del noted[name]
        if not self._has_room(noted, region, limits):
            raise InvalidRequestError(
                f'shared memory region "{region.name}": {len(noted)} regions of '
                f"{_size(noted)} bytes are registered; one user may have {limits.regions} of "
                f"{int(limits.size)} (listen.shared_memory): unregister some"
            )
        noted[region.name] = _Noted(region, file)

    def unregister(self, name: str | None) -> None:
        """Forget a region, or all; one that is not there is no mistake."""
        noted = self._all.noted(self._user)
        if name is None:
            noted.clear()
        else:
            noted.pop(name, None)

    def status(self, name: str | None) -> list[Region]:
        """One region, or all; NotFoundError for one that is not there."""
        if name is not None:
            return [self._find(name).region]
        return [one.region for one in self._all.noted(self._user).values()]

    def read(self, place: Place) -> Buffer:
        """A copy of the bytes of a place.

        Raises:
            NotFoundError: there is no such region.
            InvalidRequestError: the place is not in it, or its memory is gone or was cut.
        """
        noted, at = self._look(place)
        data = bytearray(place.size)
        view = memoryview(data)
        with self._opened(noted, writes=False) as (file, _):
            done = 0
            while done < place.size:
                count = os.preadv(file, [view[done:]], at + done)
                if not count:
                    raise _cut(noted)
                done += count
        return data

    def write(self, place: Place, data: Buffer) -> None:
        """Write from the beginning of a place on; raises as ``read``, and where it is too small."""
        noted, at = self._look(place)
        view = memoryview(data).cast("B")
        if view.nbytes > place.size:
            raise InvalidRequestError(
                f'shared memory region "{place.region}": the output takes {view.nbytes} bytes, '
                f"{place.size} were given for it (shared_memory_byte_size)"
            )
        with self._opened(noted, writes=True) as (file, found):
            if at + view.nbytes > found.st_size:
                raise _cut(noted)
            done = 0
            while done < view.nbytes:
                try:
                    done += os.pwrite(file, view[done:], at + done)
                except OSError as exc:
                    raise InvalidRequestError(
                        f'shared memory region "{place.region}" cannot be written: {exc.strerror}'
                    ) from None

    def _look(self, place: Place) -> tuple[_Noted, int]:
        """The region of a place, and where the place is in the memory."""
        noted = self._find(place.region)
        if place.offset + place.size > noted.region.size:
            raise InvalidRequestError(
                f'shared memory region "{place.region}" has {noted.region.size} bytes; offset '
                f"{place.offset} and byte_size {place.size} go beyond them"
            )
        return noted, noted.region.offset + place.offset

    def _find(self, name: str) -> _Noted:
        self._all.limits()
        found = self._all.noted(self._user).get(name)
        if found is None:
            raise NotFoundError(f'Unable to find shared memory region: "{name[:64]}"')
        return found

    @contextmanager
    def _opened(self, noted: _Noted, *, writes: bool) -> _Opened:
        with self._all.opened(noted.region.key, self._user, writes=writes) as (file, found):
            if (found.st_dev, found.st_ino) != noted.file:
                raise InvalidRequestError(
                    f'shared memory region "{noted.region.name}": its memory was replaced since it '
                    "was registered; register it again"
                )
            yield file, found

    def _is_stale(self, noted: _Noted) -> bool:
        try:
            with self._opened(noted, writes=False):
                return False
        except (InvalidRequestError, DeniedError):
            return True

    @staticmethod
    def _has_room(noted: dict[str, _Noted], region: Region, limits: SharedMemoryConfig) -> bool:
        return len(noted) < limits.regions and _size(noted) + region.size <= int(limits.size)


def _size(noted: dict[str, _Noted]) -> int:
    return sum(one.region.size for one in noted.values())


def _cut(noted: _Noted) -> InvalidRequestError:
    return InvalidRequestError(
        f'shared memory region "{noted.region.name}": its memory is shorter than when it was '
        "registered"
    )
