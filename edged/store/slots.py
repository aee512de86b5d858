"""Slots: for each model two symbolic links, to the release that serves and to the one before.

Decides how a link is exchanged so that a power cut leaves the old or the new one, never neither:
a link under another name, renamed over it, and the folder fsynced. Names are checked before they
come near a path; whatever a link holds beyond ``../../store/<digest>`` counts as nothing.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from edged.errors import BundleError
from edged.faults import fault
from edged.store.unchanged import Unchanged, stamp_of

log = logging.getLogger("edged.store")

CURRENT, PREVIOUS = "current", "previous"
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TARGET = "../../store/"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def check_model(model: str) -> str:
    """Return a model's name if it is one.

    Raises:
        BundleError: it is not; nothing was opened.
    """
    if not _MODEL.fullmatch(model):
        raise BundleError(f"{model[:64]!r} is not a model's name")
    return model


def check_digest(digest: str) -> str:
    """Return a bundle's digest if it is one.

    Raises:
        BundleError: it is not; nothing was opened.
    """
    if not _DIGEST.fullmatch(digest):
        raise BundleError(f"{digest[:80]!r} is not a bundle's digest (64 hex digits)")
    return digest


class Slots:
    """The folder of all slots.

    Args:
        fd: the open folder; stays the caller's.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._known: Unchanged[dict[str, str | OSError]] = Unchanged()
        self._is_synced = False
        """Whether all folders of models are on disk for sure; a killed run may have left some."""

    def models(self) -> list[str]:
        """Models that have a slot, sorted; anything else in the folder is passed over."""
        names = os.listdir(self._fd)  # noqa: PTH208  (relative to the descriptor)
        return sorted(name for name in names if _MODEL.fullmatch(name))

    def read(self, model: str) -> tuple[str | None, str | None]:
        """The digests in a model's slots: (current, previous)."""
        try:
            targets = self._targets(model)
        except (FileNotFoundError, NotADirectoryError):
            return None, None
        return _digest(targets.get(CURRENT)), _digest(targets.get(PREVIOUS))

    def held(self, model: str) -> set[str]:
        """The digests in a model's slots; raises OSError when that cannot be known."""
        return {_raised(target).removeprefix(_TARGET) for target in self._targets(model).values()}

    def remove(self, model: str) -> None:
        """Forget a model that nobody knows any more; raises OSError."""
        with self._folder(model) as fd:
            for name in os.listdir(fd):  # noqa: PTH208  (relative to the descriptor)
                os.unlink(name, dir_fd=fd)
            fault("slots.emptied")
            os.fsync(fd)
        os.rmdir(model, dir_fd=self._fd)
        os.fsync(self._fd)

    def swap(self, model: str, digest: str, old: str | None) -> None:
        """Put ``digest`` into the slot and ``old`` into the one behind it.

        The caller has noted in its log what both held: after a crash between the two steps that
        is what restores the second.

        Raises:
            OSError: the folder cannot be written; the slot holds the old or the new.
        """
        with contextlib.suppress(FileExistsError):
            os.mkdir(check_model(model), 0o700, dir_fd=self._fd)
            self._is_synced = False
        if not self._is_synced:
            os.fsync(self._fd)
            self._is_synced = True
        fault("activate.slot")
        with self._folder(model) as fd:
            if old is not None:
                _link(fd, PREVIOUS, old)
            fault("activate.previous")
            _link(fd, CURRENT, check_digest(digest))
        fault("activate.current")

    def restore(self, model: str, current: str | None, previous: str | None) -> bool:
        """Make both slots hold exactly this, and remove what interrupted swaps left.

        Returns:
            Whether they do: the slot behind is left as it is where a full disk has no room for it.

        Raises:
            OSError: the folder cannot be written.
        """
        is_done = True
        with self._folder(model) as fd:
            for name in os.listdir(fd):  # noqa: PTH208  (relative to the descriptor)
                if name not in (CURRENT, PREVIOUS):
                    with contextlib.suppress(OSError):
                        os.unlink(name, dir_fd=fd)
            for name, digest in ((CURRENT, current), (PREVIOUS, previous)):
                if _digest(_target(fd, name)) == digest:
                    continue
                if digest is not None:
                    try:
                        _link(fd, name, digest)
                    except OSError as exc:
                        if exc.errno not in _FULL:
                            raise
                        if name == PREVIOUS:
                            log.error("model %s: no room to restore the slot behind", model)
                            is_done = False
                        elif _digest(_target(fd, PREVIOUS)) == digest:  # to move it takes no room
                            os.rename(PREVIOUS, CURRENT, src_dir_fd=fd, dst_dir_fd=fd)
                        else:
                            raise
                else:
                    with contextlib.suppress(OSError):
                        os.unlink(name, dir_fd=fd)
            os.fsync(fd)
        return is_done

    def _targets(self, model: str) -> dict[str, str | OSError]:
        """Where the links of a model's slots point; read only if one came or went."""
        stamp = stamp_of(os.stat(check_model(model), dir_fd=self._fd, follow_symlinks=False))
        known = self._known.get(model, (stamp,))
        if known is not None:
            return known
        found: dict[str, str | OSError] = {}
        with self._folder(model) as fd:
            is_same = stamp == stamp_of(os.fstat(fd))
            for name in (CURRENT, PREVIOUS):
                target = _target(fd, name)
                if target is not None:
                    found[name] = target
                    is_same = is_same and isinstance(target, str)
        if is_same:
            self._known.keep(model, (stamp,), found)
        return found

    @contextmanager
    def _folder(self, model: str) -> Iterator[int]:
        fd = os.open(check_model(model), DIRECTORY_FLAGS, dir_fd=self._fd)
        try:
            yield fd
        finally:
            os.close(fd)


def _digest(target: str | OSError | None) -> str | None:
    """The release that a link points to; None for anything else."""
    if not isinstance(target, str) or not target.startswith(_TARGET):
        return None
    digest = target.removeprefix(_TARGET)
    return digest if _DIGEST.fullmatch(digest) else None


def _target(fd: int, name: str) -> str | OSError | None:
    """Where a link points; None where there is none."""
    try:
        return os.readlink(name, dir_fd=fd)
    except FileNotFoundError:
        return None
    except OSError as exc:
        return exc


def _raised(target: str | OSError) -> str:
    if isinstance(target, OSError):
        raise target
    return target


def _link(fd: int, name: str, digest: str) -> None:
    temporary = f".{name}-{secrets.token_hex(8)}"
    os.symlink(_TARGET + digest, temporary, dir_fd=fd)
    fault(f"link.{name}")
    os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
    fault(f"linked.{name}")
    os.fsync(fd)
