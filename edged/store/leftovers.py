"""What an interrupted write left in a state directory, or an interrupted install beside bundles.

Decides what counts as such: names that only we give, of writers that are gone. Raises nothing: what
cannot be removed costs some bytes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from edged.system.breath import breathe

_TEMPORARY = re.compile(r"\..+\.([0-9]{1,10})\.tmp", re.ASCII)
"""Of ``system/atomic.py``, with the number of the process that writes it."""
_LOG = re.compile(r"\.activation\.log-[0-9a-f]{16}", re.ASCII)
_SIGNATURES = re.compile(r"\.signatures\.json-[0-9a-f]{16}", re.ASCII)
_FOLDERS = ("", "history", "probation", "rollouts", "trust")
_INSTALL = ".install-"
_INSTALL_REST_S = 3600
"""An install that takes longer than this was interrupted."""


def remove_leftovers(state_dir: Path) -> None:
    """Clean up a state directory that is ours alone; command-line tools may write into it still."""
    for folder in _FOLDERS:
        for path in _names(state_dir / folder):
            found = _TEMPORARY.fullmatch(path.name)
            if found is not None and not _is_running(int(found[1])):
                _unlink(path)
            elif folder == "history" and path.name.startswith(".new-"):
                shutil.rmtree(path, ignore_errors=True)
            elif not folder and _LOG.fullmatch(path.name):
                _unlink(path)
    for release in _names(state_dir / "store"):
        for path in _names(release):
            if _SIGNATURES.fullmatch(path.name):
                _unlink(path)


def remove_installs(folders: Iterable[Path]) -> None:
    """Remove what interrupted installs left beside bundles, where we may."""
    for folder in folders:
        breathe()
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):  # noqa: PTH208 - of hundreds, after each change
                if name.startswith(_INSTALL):
                    _remove_old(folder / name)


def _remove_old(path: Path) -> None:
    with contextlib.suppress(OSError):
        if time.time() - path.lstat().st_mtime > _INSTALL_REST_S:
            path.unlink()


def _names(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
