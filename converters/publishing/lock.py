"""Which packages the daemon needs, at the versions installed here: what was tried is what is built.

Reads what is installed; asks no package index, and so knows no hashes of other processors' wheels.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from converters.errors import ConversionError


def lock_versions(extras: Sequence[str]) -> dict[str, str]:
    """The daemon's dependencies, of all depths, as name to version, sorted; without itself.

    Args:
        extras: of the daemon.

    Raises:
        ConversionError: one is not installed here, or at a version that does not fit.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [("edged", extra) for extra in ("", *extras)]
    while waiting:
        owner, extra = waiting.pop()
        if (owner, extra) in seen:
            continue
        seen.add((owner, extra))
        for text in importlib.metadata.requires(owner) or []:
            need = Requirement(text)
            if need.marker is not None and not need.marker.evaluate({"extra": extra}):
                continue
            name = canonicalize_name(need.name)
            found[name] = _version(need, extras)
            waiting += [(name, more) for more in ("", *need.extras)]
    return dict(sorted(found.items()))


def check_runtime(versions: dict[str, str], target: str, oldest: str) -> None:
    """Refuse an ONNX Runtime that is older than the one which the target was promised.

    Raises:
        ConversionError: names both.
    """
    if Version(versions["onnxruntime"]) < Version(oldest):
        raise ConversionError(
            f"onnxruntime {versions['onnxruntime']} is installed here; {target} has {oldest} or "
            "later, and a bundle for it may need that: update it and try again"
        )


def _version(need: Requirement, extras: Sequence[str]) -> str:
    try:
        version = importlib.metadata.version(need.name)
    except importlib.metadata.PackageNotFoundError as exc:
        raise ConversionError(
            f"{need.name} is not installed here, and the versions in the lock are those that are: "
            f'pip install "edged[{",".join(extras)}]" beside the converter and try again'
        ) from exc
    if not need.specifier.contains(version, prereleases=True):
        raise ConversionError(
            f"{need.name} {version} is installed here; edged needs {need.specifier}"
        )
    return version
