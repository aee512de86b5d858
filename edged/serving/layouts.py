"""Whether a layout of tensors fits what a release promises, and what its answers then hold.

Pure; asked when a call is prepared, not when it is made.
"""

from __future__ import annotations

import numpy as np

from edged.errors import InvalidRequestError, TensorMismatchError
from edged.serving.served import Served
from edged.tensors import ALL_DTYPES, BATCH, Array, TensorSpec, check_tensors, size_bytes


def check_layout(release: Served, specs: tuple[TensorSpec, ...]) -> int | None:
    """Check a layout against a signature.

    Args:
        release: who would answer.
        specs: the layout; each array will be dtype[*shape], with any number of rows where its first
            axis is free.

    Returns:
        The rows where the layout fixes them, else None.

    Raises:
        TensorMismatchError: a name, dtype or shape is not the signature's, or rows are free for one
            input and fixed for another.
    """
    signature = {spec.name: spec for spec in release.inputs}
    probes: dict[str, Array] = {}
    firsts = set()
    for spec in specs:
        wanted = signature.get(spec.name)
        if wanted is not None and spec.is_batched and not wanted.is_batched:
            raise TensorMismatchError(
                f'{release.owner} wants {wanted} for "{spec.name}": its first axis holds no rows '
                "that may differ from call to call; give it as a number"
            )
        if wanted is not None and wanted.is_batched:
            firsts.add(spec.shape[:1])
        # An array of that dtype and shape without memory of its own.
        zero = np.zeros((), ALL_DTYPES[spec.dtype].numpy)
        probes[spec.name] = np.broadcast_to(zero, row_shape(spec))
    rows = check_tensors(release.inputs, probes, release.owner)
    if len(firsts) > 1:
        raise TensorMismatchError(
            f'{release.owner}: the "{BATCH}" axis is free for one input and fixed for another; '
            "leave it free or fix it for all"
        )
    return None if (BATCH,) in firsts else rows


def outputs_of(release: Served, wanted: tuple[str, ...]) -> tuple[TensorSpec, ...]:
    """The outputs that were asked for, all when none was named.

    Raises:
        InvalidRequestError: the release has no such output; the message lists what it has.
    """
    if not wanted:
        return release.outputs
    known = {spec.name: spec for spec in release.outputs}
    for name in wanted:
        if name not in known:
            raise InvalidRequestError(
                f'{release.owner} has no output "{name[:64]}"; it has: {", ".join(sorted(known))}'
            )
    return tuple(known[name] for name in wanted)


def outputs_with(
    release: Served,
    wanted: tuple[str, ...],
    inputs: tuple[TensorSpec, ...],
    rows: int | None,
) -> tuple[TensorSpec, ...]:
    """The outputs an answer will hold, with the rows filled in where the layout fixes them.

    Args:
        release: who would answer.
        wanted: names of outputs; empty for all.
        inputs: the layout.
        rows: what ``check_layout`` said of it.

    Raises:
        InvalidRequestError: as ``outputs_of``.
    """
    specs = outputs_of(release, wanted)
    if rows is None or any(spec.is_batched for spec in inputs):
        return specs
    return tuple(
        TensorSpec(spec.name, spec.dtype, (rows, *spec.shape[1:])) if spec.is_batched else spec
        for spec in specs
    )


def row_shape(spec: TensorSpec) -> tuple[int, ...]:
    """The shape with one row, or whole where no axis is free."""
    return tuple(axis if isinstance(axis, int) else 1 for axis in spec.shape)


def row_bytes(spec: TensorSpec) -> int:
    """How many bytes that is."""
    return size_bytes(spec.dtype, row_shape(spec))
