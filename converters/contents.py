"""What a recipe points to, as digests: the same bytes are the same source, wherever they lie."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from converters.errors import ConversionError
from converters.recipe import PATHS, Recipe, is_factory

MAX_FILES = 10_000
"""A SavedModel has some dozen files; a folder with more was hardly meant."""


def hash_sources(recipe: Recipe) -> dict[str, str]:
    """What stands for each path in the recipe's digest: the sha256 of its bytes.

    Raises:
        ConversionError: a path cannot be read; names the field.
    """
    contents: dict[str, str] = {}
    for name in PATHS:
        value = getattr(recipe, name)
        if not value:
            continue
        if name == "source" and is_factory(value):
            contents[name] = value
            continue
        try:
            contents[name] = hash_path(Path(value))
        except OSError as exc:
            raise ConversionError(f'{name} "{value}": {exc.strerror or exc}') from exc
    return contents


def hash_path(path: Path) -> str:
    """Sha256 of a file's bytes, or of the sorted names and digests of a folder's files.

    Raises:
        OSError: something in it cannot be read.
        ConversionError: a folder with too many files, or one with links.
    """
    if not path.is_dir():
        return _hash_file(path)
    digest = hashlib.sha256()
    for count, (name, file) in enumerate(sorted(_files(path))):
        if count == MAX_FILES:
            raise ConversionError(f'"{path.name}" holds over {MAX_FILES} files; is it a model?')
        digest.update(f"{len(name)}:{name}:{_hash_file(file)}\n".encode())
    return digest.hexdigest()


def _files(folder: Path) -> list[tuple[str, Path]]:
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            file = Path(place, name)
            found.append((file.relative_to(folder).as_posix(), file))
        if len(found) > MAX_FILES:
            break
    return found


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
