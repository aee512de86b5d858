"""Files of one entry a line that steps name: characters, labels."""

from __future__ import annotations

from pathlib import Path

from edged.errors import FieldError

_MOST_BYTES = 4 << 20
"""All of Unicode's letters have half a megabyte; a hundred thousand labels of forty bytes fit."""


def read_lines(path: Path, field: str) -> list[str]:
    """The lines of a file in UTF-8, without their ends.

    Raises:
        FieldError: at ``field``: it cannot be read, is too large or is no text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise FieldError(field, f"{path} has more than {_MOST_BYTES} bytes")
        lines = data.decode("utf-8").split("\n")
    except OSError as exc:
        raise FieldError(field, f"cannot read {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise FieldError(field, f"{path} is not UTF-8") from exc
    if lines and not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
