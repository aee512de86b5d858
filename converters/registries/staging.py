"""Giving a file the ending that says what is in it: several tools write endings that lie."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

from converters.errors import ConversionError
from converters.registries.files import walk
from converters.registries.resolved import Place

ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def stage_as(path: Path, ending: str, place: Place) -> Path:
    """The file itself when its ending is right, else the same bytes under an honest name.

    Raises:
        ConversionError: it cannot be copied.
    """
    if path.suffix == ending:
        return path
    target = place.folder / f"{path.stem}{ending}"
    try:
        try:
            os.link(path, target)
        except OSError:  # another file system
            shutil.copyfile(path, target)
    except OSError as exc:
        raise ConversionError(f'"{path}": cannot be copied: {exc.strerror}') from exc
    return target


def copy_folder(folder: Path, target: Path, *, without: str) -> None:
    """The plain files of a folder under another name, all but one.

    Raises:
        ConversionError: a link among them, or it cannot be copied.
    """
    try:
        for path in walk(folder):
            relative = path.relative_to(folder)
            if str(relative) != without:
                (target / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target / relative)
    except OSError as exc:
        raise ConversionError(f'"{folder}": cannot be copied: {exc.strerror}') from exc


def zip_folder(names: list[str], folder: Path, target: Path) -> Path:
    """Pack files of one folder, always to the same bytes.

    Raises:
        ConversionError: one cannot be read.
    """
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for name in names:
                info = zipfile.ZipInfo(name, ZIP_DATE)
                with (folder / name).open("rb") as file, archive.open(info, "w") as member:
                    shutil.copyfileobj(file, member)
    except OSError as exc:
        raise ConversionError(f'"{folder}": cannot be packed: {exc.strerror}') from exc
    return target
