"""Whether what a model file declares is what its bundle promises; the same words for every runtime.

Decides from names, dtypes and shapes alone. A promise may be narrower than the file: a length where
the file has a free axis, or fewer outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edged.errors import LoadError
from edged.tensors import TensorSpec


def check_names(
    where: str, side: str, promised: Sequence[TensorSpec], declared: Iterable[str]
) -> None:
    """Hold the promised names against the declared ones.

    Args:
        where: the model, for messages, e.g. ``model "gate"``.
        side: ``input`` or ``output``.
        promised: by the bundle.
        declared: names in the model file.

    Raises:
        LoadError: a promised one is missing, or an input was not promised.
    """
    names = list(declared)
    wanted = {spec.name for spec in promised}
    # Outputs that nobody promised are simply not computed; every input is needed.
    unknown = [name for name in names if name not in wanted] if side == "input" else []
    missing = [name for name in wanted if name not in names]
    if missing or unknown:
        has = ", ".join(f'"{name}"' for name in names)
        raise LoadError(
            f"{where}: the bundle promises {side}s {', '.join(sorted(wanted))}; the model file "
            f"has {has}; convert the model again"
        )


def check_fit(where: str, side: str, promised: TensorSpec, found: TensorSpec) -> None:
    """Hold one tensor's promise against what the file declares of it.

    Args:
        where: as in ``check_names``.
        side: likewise.
        promised: by the bundle.
        found: in the model file.

    Raises:
        LoadError: another dtype or rank, or a length that differs from a fixed one.
    """
    fits = len(found.shape) == len(promised.shape) and all(
        have == want or isinstance(have, str)
        for want, have in zip(promised.shape, found.shape, strict=True)
    )
    if found.dtype != promised.dtype or not fits:
        raise LoadError(
            f'{where}: {side} "{promised.name}" is {found} in the model file; the bundle promises '
            f"{promised}; convert the model again"
        )
