"""A folder of pictures as calibration rows, each decoded as the daemon will decode it.

Decides which files of the folder are pictures and in which order they come. What a pixel becomes is
the daemon's own affair (``edged/processing/image.py``), by the same words of the bundle.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from converters.describe import image_shape
from converters.errors import ConversionError
from converters.precision.calibration import MAX_ROWS
from converters.precision.left_out import LeftOut
from converters.samples import spread
from edged.errors import FieldError, InvalidRequestError
from edged.manifest import TensorEntry
from edged.processing.image import MAX_IMAGE_BYTES, ImageCodec
from edged.specs import ImageInput, InputProcessing
from edged.tensors import Array

ENDINGS = (".png", ".jpg", ".jpeg")
"""What a binding takes; a device will never see another format."""


@dataclass
class Pictures:
    """Pictures of a folder, decoded one after another.

    Args:
        folder: where they lie.
        names: those that are used, relative to it, in order.
        total: how many there are.
        others: names of files that are no pictures.
        entry: the input.
        work: the bundle's word on how a picture becomes a row of it.
        codec: the daemon's decoder.
    """

    folder: Path
    names: tuple[str, ...]
    total: int
    others: tuple[str, ...]
    entry: TensorEntry
    work: ImageInput
    codec: ImageCodec
    left_out: LeftOut = field(init=False)

    def __post_init__(self) -> None:
        hint = "is the input described as it is (--image), or are they other pictures?"
        self.left_out = LeftOut(self.folder.name, "pictures", len(self.names), hint)

    @property
    def row_bytes(self) -> int:
        """Of one decoded picture."""
        return int(np.prod(image_shape(self.work))) * np.dtype(self.entry.dtype).itemsize

    def chunks(self, rows: int) -> Iterator[dict[str, Array]]:
        """The pictures, at most so many at a time; those that do not decode are left out.

        Raises:
            ConversionError: too many do not decode, or too few do.
        """
        ready: list[Array] = []
        used = 0
        for name in self.names:
            picture = self._decode(name)
            if picture is None:
                continue
            used += 1
            ready.append(picture)
            if len(ready) == rows:
                yield {self.entry.name: np.concatenate(ready)}
                ready = []
        if ready:
            yield {self.entry.name: np.concatenate(ready)}
        self.left_out.check_enough(used)

    def _decode(self, name: str) -> Array | None:
        try:
            with (self.folder / name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size  # read() makes room for what it is told
                data = file.read(min(size, MAX_IMAGE_BYTES) + 1)
            return self.codec.decode(data)[self.entry.name]
        except OSError as exc:
            raise ConversionError(
                f'calibration "{_shown(str(self.folder / name))}": {exc.strerror}'
            ) from exc
        except InvalidRequestError as exc:
            self.left_out.add(f'"{_shown(name)}"', exc.message)
            return None

    def told(self) -> str:
        """How much of it is used, for the report."""
        used = len(self.names) - len(self.left_out.reasons)
        said = [f"{used} of {self.total} pictures", self.left_out.told()]
        if self.others:
            said.append(
                f'{len(self.others)} other files not looked at ("{_shown(self.others[0])}" first)'
            )
        return ", ".join(part for part in said if part)

    def facts(self) -> dict[str, object]:
        """The same for the manifest, once all chunks were taken."""
        dropped = len(self.left_out.reasons)
        return {
            "kind": "pictures",
            "rows": self.total,
            "rows_used": len(self.names) - dropped,
            "left_out": dropped,
        }


def open_pictures(
    folder: Path, entries: Sequence[TensorEntry], works: Mapping[str, InputProcessing]
) -> Pictures:
    """Look through a folder and its sub-folders.

    Args:
        folder: where the pictures lie.
        entries: the model's inputs.
        works: what the bundle will say of them.

    Raises:
        ConversionError: no picture, or no input that takes one; says what there is.
    """
    where = f'calibration "{folder.name}"'
    if len(entries) != 1:
        raise ConversionError(
            f"{where}: a folder of pictures fills one input, and the model has {len(entries)} "
            f"({', '.join(entry.name for entry in entries)}); bring a .npz file"
        )
    entry = entries[0]
    work = works.get(entry.name)
    if not isinstance(work, ImageInput):
        raise ConversionError(
            f"{where}: nothing says how a picture becomes input "
            f'"{entry.name}" {entry.spec()}; say it as the device needs it too (--image, or '
            "input_processing of kind image)"
        )
    try:
        codec = ImageCodec(entry.spec(), work)
    except FieldError as exc:
        raise ConversionError(f"{where}: {exc.reason}") from exc
    names, others = _list(folder)
    if not names:
        got = (
            f"{len(others)} other files ({', '.join(map(_shown, others[:3]))})"
            if others
            else "an empty one"
        )
        raise ConversionError(
            f"{where}: expected a folder of pictures ({', '.join(ENDINGS)}), got {got}"
        )
    chosen = tuple(names[index] for index in spread(len(names), MAX_ROWS))
    return Pictures(folder, chosen, len(names), tuple(others), entry, work, codec)


def _shown(name: str) -> str:
    """A name that a report can hold: one that is no UTF-8 reads as its bytes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _list(folder: Path) -> tuple[list[str], list[str]]:
    """Names of pictures and of other files below a folder, sorted; hidden ones are neither."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name).relative_to(folder).as_posix() for name in names]
    seen = sorted(name for name in found if not name.rpartition("/")[2].startswith("."))
    pictures = [name for name in seen if name.lower().endswith(ENDINGS)]
    return pictures, [name for name in seen if not name.lower().endswith(ENDINGS)]
