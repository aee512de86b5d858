"""What a recipe points to, as digests: the same bytes are the same source, wherever they lie."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import onnx

from converters.errors import ConversionError
from converters.paths import check_plain
from converters.recipe import PATHS, Recipe, is_factory
from converters.walk import stored_tensors

MAX_FILES = 10_000
"""A SavedModel has some dozen files; a folder with more was hardly meant."""
MAX_PICTURES = 200_000
"""Of a folder to calibrate with, which may be a whole data set; a name takes some hundred bytes."""


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
            most = MAX_PICTURES if name == "calibration" else MAX_FILES
            contents[name] = hash_path(Path(value), most)
            if name == "source" and (value.lower().endswith(".onnx") or recipe.kind == "onnx"):
                contents[name] = _with_side_files(Path(value), contents[name])
        except OSError as exc:
            raise ConversionError(f'{name} "{value}": {exc.strerror or exc}') from exc
    return contents


def _with_side_files(path: Path, digest: str) -> str:
    """The digest of an .onnx file together with those of the files that hold its weights.

    What does not parse, or names files that are not beside it, is refused by the source's reader.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception:
        return digest
    names = {
        entry.value
        for tensor in stored_tensors(model)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    beside = [name for name in sorted(names) if _is_beside(path.parent, name)]
    if not beside:
        return digest
    parts = [f"{len(name)}:{name}:{_hash_file(path.parent / name)}\n" for name in beside]
    return hashlib.sha256("".join([digest, "\n", *parts]).encode()).hexdigest()


def _is_beside(folder: Path, name: str) -> bool:
    """Whether a file may be read: a plain one below the folder."""
    try:
        path = (folder / name).resolve()
        return path.is_relative_to(folder.resolve()) and path.is_file()
    except (OSError, ValueError):
        return False


def hash_path(path: Path, most: int | None = None) -> str:
    """Sha256 of a file's bytes, or of the sorted names and digests of a folder's files.

    Args:
        path: the file or folder.
        most: files in a folder; default MAX_FILES.

    Raises:
        OSError: something in it cannot be read.
        ConversionError: a folder with too many files, with a link to a folder (what lies there
            would not be counted), a pipe or a device.
    """
    if not path.is_dir():
        return _hash_file(path)
    digest = hashlib.sha256()
    most = MAX_FILES if most is None else most
    for count, (name, file) in enumerate(sorted(_files(path, most))):
        if count == most:
            raise ConversionError(f'"{path.name}" holds over {most} files; is it what was meant?')
        digest.update(f"{len(name)}:{name}:{_hash_file(file)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _files(folder: Path, most: int) -> list[tuple[str, Path]]:
    found = []
    for place, folders, names in os.walk(folder):
        for name in folders:
            if Path(place, name).is_symlink():
                raise ConversionError(
                    f'"{name}" in "{folder.name}" is a link to a folder; replace it by the folder'
                )
        for name in names:
            file = Path(place, name)
            check_plain(file, f'in "{folder.name}"')
            found.append((file.relative_to(folder).as_posix(), file))
        if len(found) > most:
            break
    return found


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
