"""Why a package cannot be used, in words that say what to do next; the same for every runtime.

Decides only how an exception of an import is worded: a package that is not there, one that lacks
another, one whose libraries do not load, and one that fails of itself.
"""

from __future__ import annotations

import re
from typing import Any

_PATH = re.compile(r"(?<![\w])/[^\s:'\"]*[^\s:'\".,]")
_CAP = 300
"""A sentence; what a package says beyond it stands in nobody's way of finding the cause."""
_UNVERSIONED = "unversioned"
_LIBRARY = re.compile(r"cannot open shared object|undefined symbol|\.so\b|GLIBC|cannot allocate")


def why_not(package: str, exc: BaseException) -> str:
    """What an exception of importing a package means.

    Args:
        package: its name, as one imports it.
        exc: what the import raised.

    Returns:
        A clause without paths that goes on after the package's name, e.g. ``is not installed (…)``.
    """
    said = _PATH.sub("(path)", " ".join(str(exc).split()))
    said = said if len(said) <= _CAP else said[: _CAP - 1] + "…"
    words = f" ({said})" if said else ""
    if isinstance(exc, ModuleNotFoundError):
        lacks = exc.name
        if lacks is None or lacks.partition(".")[0] == package.partition(".")[0]:
            return f"is not installed{words}"
        return f"is installed and needs {lacks}, which is not{words}"
    if isinstance(exc, OSError) or (isinstance(exc, ImportError) and _LIBRARY.search(said)):
        # The dynamic linker's words come as either, by how a package opens its libraries.
        return f"is installed but does not load, a library of it or beside it fails{words}"
    return f"is installed but does not import ({type(exc).__name__}: {said})"


def version_of(module: Any) -> str:
    """The version of a package that was imported.

    Raises:
        ImportError: what was imported is a folder that another package left behind.
    """
    if getattr(module, "__file__", None) is None:
        raise ImportError("a folder of its name is there, and nothing of its code")
    return str(getattr(module, "__version__", "") or _UNVERSIONED)
