"""A look at a source from outside: ending, first bytes, zip listing, opcodes of a pickle.

Never loads anything: a model file may be a program. What is seen decides which framework is asked
and what a refusal says; it never decides that a pickle is safe.
"""

from __future__ import annotations

import io
import os
import pickletools
import zipfile
from dataclasses import dataclass
from pathlib import Path

START_BYTES = 64
"""Enough for every magic number; HDF5 and TFLite have theirs in the first eight."""
NAMES_CAP = 10_000
"""Members of an archive or entries of a folder that are looked at: a pt2 of a large network has
some thousand."""
PICKLE_CAP_BYTES = 1 << 20
"""How far a pickle is scanned. The classes of a model stand near its start; what comes after are
numbers. The scan takes about a second for each MiB of small opcodes."""


@dataclass(frozen=True)
class Look:
    """What can be seen of a source without opening it as what it is.

    Args:
        path: where it lies.
        is_folder: whether it is a folder.
        start: its first bytes; empty for a folder.
        names: members of a zip without their first folder, or the entries of a folder.
        words: module-qualified names and short texts in a pickle (the file's own, or the
            ``data.pkl`` of a zip): ``torch._utils._rebuild_tensor_v2``, ``state_dict``.
        globals: the names among them that the pickle asks for: what opening it would call.
    """

    path: Path
    is_folder: bool = False
    start: bytes = b""
    names: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    globals: frozenset[str] = frozenset()

    @property
    def suffix(self) -> str:
        """The ending in lower case, with its dot."""
        return self.path.suffix.lower()

    @property
    def is_zip(self) -> bool:
        """Whether it starts as a zip archive does."""
        return self.start[:4] == b"PK\x03\x04"

    @property
    def is_pickle(self) -> bool:
        """Whether it starts as a pickle of protocol 2 to 5 does."""
        return self.start[:1] == b"\x80" and self.start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def look(path: Path) -> Look:
    """Look at a file or folder.

    Raises:
        OSError: it cannot be read.
    """
    if path.is_dir():
        with os.scandir(path) as entries:
            listed = {entry.name for entry, _ in zip(entries, range(NAMES_CAP), strict=False)}
        return Look(path, is_folder=True, names=frozenset(listed))
    names: frozenset[str] = frozenset()
    data = b""
    with path.open("rb") as file:
        start = file.read(START_BYTES)
        plain = Look(path, start=start)
        if plain.is_zip:
            names, data = _read_zip(file)
        elif plain.is_pickle:
            data = start + file.read(PICKLE_CAP_BYTES)
    words, asked = _scan(data)
    return Look(path, start=start, names=names, words=words, globals=asked)


def _read_zip(file: io.BufferedReader) -> tuple[frozenset[str], bytes]:
    """The listing, and the start of PyTorch's ``data.pkl`` where there is one."""
    try:
        with zipfile.ZipFile(file) as archive:
            listed = archive.namelist()[:NAMES_CAP]
            pickled = [name for name in listed if name.rsplit("/", 1)[-1] == "data.pkl"]
            data = b""
            if pickled:
                with archive.open(pickled[0]) as member:
                    data = member.read(PICKLE_CAP_BYTES)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError):
        return frozenset(), b""  # not a zip after all, or a broken one: its reader will say so
    # PyTorch puts everything into one folder named after the file.
    inner = {name.partition("/")[2] for name in listed if "/" in name}
    return frozenset({*listed, *inner}), data


def _scan(data: bytes) -> tuple[frozenset[str], frozenset[str]]:
    """Walk over a pickle's opcodes, running none of them: its words, and what it asks for."""
    words: set[str] = set()
    asked: set[str] = set()
    recent: list[str] = []
    memo: dict[int, str] = {}
    memoized = 0
    last = ""
    try:
        for opcode, argument, _ in pickletools.genops(data):
            pushed = ""
            if opcode.name == "GLOBAL":
                asked.add(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL":
                asked.add(".".join(recent[-2:]))
            elif "UNICODE" in opcode.name or "STRING" in opcode.name:
                pushed = str(argument)[:200]
                words.add(pushed)
            elif opcode.name == "MEMOIZE" or "PUT" in opcode.name:
                memo[memoized if argument is None else int(argument)] = last
                memoized += 1
            elif "GET" in opcode.name:
                pushed = memo.get(int(argument or 0), "")
            last = pushed
            recent = [*recent[-1:], pushed] if pushed else recent
    except Exception:  # noqa: S110  (anything may stand in a file that only looks like a pickle)
        pass
    return frozenset(words | asked), frozenset(asked)
