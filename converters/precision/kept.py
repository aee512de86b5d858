"""The ranges so far, beside the output: what a calibration that was cut off goes on from.

A file of two numbers a value, or of its histogram, that is replaced as a whole every few seconds
and counts only for the same model, rows and settings. Whoever takes less never sees it.
"""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from converters.atomic import replace_file
from edged.tensors import Array

ENDING = ".calibration"
SAVE_S = 5.0
"""What a cut costs at most; quicker calibrations never write the file."""
CAP_BYTES = 1 << 30
"""A histogram has 16 KiB, and a model some thousand values."""
_META = "meta"


def kept_beside(output: Path) -> Path:
    """``net-3.edgb``: ``net-3.edgb.calibration``."""
    return output.with_name(output.name + ENDING)


def key_of(*facts: object) -> str:
    """One digest of all that decides the ranges; bytes count as their own digest."""
    plain = [hashlib.sha256(f).hexdigest() if isinstance(f, bytes) else f for f in facts]
    return hashlib.sha256(msgspec.json.encode(plain, order="deterministic")).hexdigest()


class _Meta(msgspec.Struct):
    key: str
    stage: str
    done: int


@dataclass
class Kept:
    """What was measured so far.

    Args:
        path: the file; None keeps nothing.
        key: of the model, the rows and the settings (``key_of``).
    """

    path: Path | None = None
    key: str = ""
    resumed: int = 0
    _saved: float = field(default_factory=time.monotonic)

    def read(
        self, stage: str, shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[int, dict[str, Array]]:
        """How many chunks of a stage are done, and what they gave; 0 and nothing for another one.

        Args:
            stage: which pass over the rows.
            shapes: of what it gives, by name.
        """
        found = self._load()
        if found is None or (found[0].key, found[0].stage) != (self.key, stage):
            return 0, {}
        meta, arrays = found
        if {name: array.shape for name, array in arrays.items()} != dict(shapes):
            return 0, {}
        self.resumed = meta.done
        return meta.done, arrays

    def told(self) -> str:
        """That not all was measured now; empty otherwise."""
        return ", a part of them by a run before that was cut off" if self.resumed else ""

    def note(self, stage: str, done: int, arrays: Mapping[str, Array]) -> None:
        """Keep what a stage has given after so many chunks, if the last time is long ago.

        Raises:
            ConversionError: it cannot be written.
        """
        if self.path is None or time.monotonic() - self._saved < SAVE_S:
            return
        buffer = io.BytesIO()
        meta = np.frombuffer(msgspec.json.encode(_Meta(self.key, stage, done)), np.uint8)
        held: dict[str, Any] = {_META: meta, **arrays}
        np.savez(buffer, **held)
        replace_file(self.path, buffer.getvalue())
        self._saved = time.monotonic()

    def _load(self) -> tuple[_Meta, dict[str, Array]] | None:
        """What the file holds; a file that is none of ours, or damaged, counts as none."""
        try:
            if self.path is None or self.path.stat().st_size > CAP_BYTES:
                return None
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            meta = msgspec.json.decode(arrays.pop(_META).tobytes(), type=_Meta)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return meta, arrays
