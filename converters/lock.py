"""A recipe's lock, ``NAME.lock.json`` beside it: the versions and contents it is converted with.

What is locked decides the bundle's bytes. A recipe that has a lock is converted with the same, or
not at all; the refusal says what differs.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import onnx
from msgspec import Struct

from converters.atomic import replace_file
from converters.errors import ConversionError
from converters.records import read_record
from converters.session import VERSION as ORT_VERSION
from edged.version import __version__

Mode = Literal["check", "write", "update"]
"""``check`` an existing lock; ``write`` one where there is none; ``update`` it whatever it says."""
CAP_BYTES = 1 << 20
"""A lock has some twenty lines."""
SHA256_DIGITS = 64
SHOWN_DIGITS = 12
"""Of a digest, in a message: enough to see that it is another one."""


class Facts(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a conversion was made with.

    Args:
        format: ``edged-lock-v1``.
        converter: versions in the converter's own process.
        framework: versions in the framework's process; empty while it has not run.
        inputs: the sha256 of what the recipe points to, by field.
    """

    format: Literal["edged-lock-v1"] = "edged-lock-v1"
    converter: dict[str, str]
    framework: dict[str, str]
    inputs: dict[str, str]


def gather_facts(contents: Mapping[str, str], framework: Mapping[str, str]) -> Facts:
    """What is true here and now.

    Args:
        contents: as ``converters.contents.hash_sources`` gives it.
        framework: names and versions of the framework's process.
    """
    converter = {
        "python": platform.python_version(),
        "edged": __version__,
        "msgspec": msgspec.__version__,
        "numpy": np.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": ORT_VERSION,
    }
    return Facts(converter=converter, framework=dict(framework), inputs=dict(contents))


class Lock:
    """One recipe's lock during one conversion.

    Args:
        path: the lock file, which may not be there yet.
        mode: what to do with it.

    Raises:
        ConversionError: there is a file, and it is no lock.
    """

    def __init__(self, path: Path, mode: Mode) -> None:
        self._path = path
        self._mode = mode
        self._locked = None
        if mode != "update":
            remedy = "--update-lock writes a new one"
            self._locked = read_record(path, Facts, CAP_BYTES, "a lock", remedy)

    def check(self, contents: Mapping[str, str], framework: Mapping[str, str]) -> None:
        """Refuse what is not as it is locked; before the framework has run, only what is known.

        Args:
            contents: what the recipe points to.
            framework: the framework's process; empty before it has run.

        Raises:
            ConversionError: lists every difference.
        """
        if self._locked is None:
            return
        found = list_differences(self._locked, gather_facts(contents, framework))
        if found:
            raise ConversionError(
                f"{self._path} differs: {'; '.join(found)}; go back to what it says, or take the "
                "new with --update-lock"
            )

    def keep(self, contents: Mapping[str, str], framework: Mapping[str, str]) -> None:
        """Write the lock where that was asked for and it says something new.

        Raises:
            ConversionError: it cannot be written.
        """
        if self._mode != "check" and self._locked is None:
            facts = gather_facts(contents, framework)
            data = msgspec.json.encode(facts, order="deterministic")
            replace_file(self._path, msgspec.json.format(data, indent=1) + b"\n")


def lock_path(recipe: Path) -> Path:
    """``digits.yaml``: ``digits.lock.json``."""
    return recipe.with_name(f"{recipe.stem}.lock.json")


def open_lock(recipe: Path | None, *, write: bool, update: bool) -> Lock | None:
    """The lock of a recipe file, or None where there is none and none was asked for.

    Raises:
        ConversionError: one was asked for without a recipe file; or the file is no lock.
    """
    if recipe is None:
        if write or update:
            raise ConversionError(
                "--lock and --update-lock belong to a --recipe, and none is given"
            )
        return None
    path = lock_path(recipe)
    if not (write or update or path.exists()):
        return None
    return Lock(path, "update" if update else "write" if write else "check")


def list_differences(locked: Facts, found: Facts) -> list[str]:
    """What differs, a text each; nothing is said of a process that has not run."""
    lines = []
    for section in ("converter", "framework", "inputs"):
        old, new = getattr(locked, section), getattr(found, section)
        if section == "framework" and not new:
            continue
        for name in sorted({*old, *new}):
            before, after = old.get(name), new.get(name)
            if before != after:
                lines.append(f"{section} {name}: locked {_shown(before)}, now {_shown(after)}")
    return lines


def _shown(value: str | None) -> str:
    if value is None:
        return "nothing"
    return f"{value[:SHOWN_DIGITS]}…" if len(value) == SHA256_DIGITS else value
