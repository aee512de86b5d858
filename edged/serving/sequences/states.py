"""What a model keeps from one request of a sequence to the next: its shapes, apart from the rest.

Pure. A bundle promises states as ordinary inputs and outputs, with the rows on any axis. Here they
are taken out of the signature that clients see, and the rest of the daemon has the rows first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET

from edged.config.problems import field_path
from edged.config.sequence import SequenceConfig
from edged.errors import FieldError, RunError
from edged.manifest import Manifest, TensorEntry
from edged.runtimes.base import BoundRun, Session
from edged.tensors import BATCH, DTYPES, Array, TensorSpec, describe


class StateTensor(NamedTuple):
    """One state.

    Args:
        input: what takes it.
        output: what gives the next one.
        dtype: a key of DTYPES.
        row: the shape of one row; the whole shape where it has no rows.
        axis: where the model has the rows; None where it has none.
    """

    input: str
    output: str
    dtype: str
    row: tuple[int, ...]
    axis: int | None

    def shape(self, rows: int) -> tuple[int, ...]:
        """With the rows first."""
        return self.row if self.axis is None else (rows, *self.row)

    def size_bytes(self, rows: int) -> int:
        """What it takes in memory."""
        return math.prod(self.shape(rows)) * DTYPES[self.dtype].size_bytes


Signature = tuple[tuple[str, str, tuple[int, ...], bool], ...]


@dataclass(frozen=True, slots=True)
class StateLayout:
    """The states of one release.

    Args:
        tensors: in the order of the inputs.
        seen: the manifest without them, as clients have it.
        whole: the manifest with them, the rows first wherever there are rows.
    """

    tensors: tuple[StateTensor, ...]
    seen: Manifest
    whole: Manifest

    @property
    def signature(self) -> Signature:
        """What another release must agree with to go on with these states."""
        return tuple((one.input, one.dtype, one.row, one.axis is None) for one in self.tensors)

    @property
    def has_rows(self) -> bool:
        """Whether a sequence keeps to the number of rows that it began with."""
        return any(one.axis is not None for one in self.tensors)

    def size_bytes(self, rows: int) -> int:
        """What one sequence's states take."""
        return sum(one.size_bytes(rows) for one in self.tensors)

    def fresh(self, rows: int) -> dict[str, Array]:
        """The states that a sequence begins with."""
        return {
            one.input: np.zeros(one.shape(rows), DTYPES[one.dtype].numpy) for one in self.tensors
        }

    def taken(self, outputs: Mapping[str, Array], rows: int, owner: str) -> dict[str, Array]:
        """The next states out of what a run gave, as copies: it gave them for others too.

        Raises:
            RunError: one of them is not what the bundle promises.
        """
        states = {}
        for one in self.tensors:
            array = outputs.get(one.output)
            if array is None:
                raise RunError(f'{owner} gave no output "{one.output}"')
            if array.shape != one.shape(rows) or array.dtype != DTYPES[one.dtype].numpy:
                wanted = f"{one.dtype}[{','.join(map(str, one.shape(rows)))}]"
                raise RunError(
                    f'{owner} gave {describe(array)} for "{one.output}", its next state is '
                    f"{wanted} with the rows first"
                )
            states[one.input] = array.copy()
        return states


def plan_states(manifest: Manifest, config: SequenceConfig) -> StateLayout:
    """Take the states out of a bundle's signature.

    Raises:
        FieldError: with the path inside the section: no such input or output, or two that do not
            fit together.
    """
    inputs = {spec.name: spec for spec in manifest.input_specs()}
    outputs = {spec.name: spec for spec in manifest.output_specs()}
    for taken, given in config.state.items():
        _check_pair(field_path("state", taken), (taken, inputs), (given, outputs))
    for kind, specs, hidden in (
        ("input", inputs, set(config.state)),
        ("output", outputs, set(config.state.values())),
    ):
        if not specs.keys() - hidden:
            raise FieldError("state", f"takes every {kind}; one at least must be for the client")
    tensors = tuple(
        _state(inputs[name], config.state[name]) for name in inputs if name in config.state
    )
    axes = {name: one.axis for one in tensors for name in (one.input, one.output)}
    return StateLayout(tensors, _without(manifest, axes.keys()), _rows_first(manifest, axes))


def _check_pair(
    path: str,
    taken: tuple[str, Mapping[str, TensorSpec]],
    given: tuple[str, Mapping[str, TensorSpec]],
) -> None:
    for kind, (name, specs) in (("input", taken), ("output", given)):
        if name not in specs:
            listed = ", ".join(f'"{one}"' for one in specs)
            raise FieldError(path, f'the bundle has no {kind} "{name}"; it has: {listed}')
    into, out = taken[1][taken[0]], given[1][given[0]]
    if (into.dtype, into.shape) != (out.dtype, out.shape):
        raise FieldError(
            path, f'takes {into}, and "{out.name}" gives {out}; dtype and shape must be the same'
        )
    if into.dtype not in DTYPES:
        raise FieldError(path, f"{into}: a state is of one of {', '.join(DTYPES)}")
    free = [axis for axis in into.shape if isinstance(axis, str)]
    if free not in ([], [BATCH]):
        raise FieldError(
            path,
            f"{into}: of a state only the rows may be free, one axis called {BATCH}; the others "
            "need a length to begin with",
        )


def _state(spec: TensorSpec, output: str) -> StateTensor:
    axis = spec.shape.index(BATCH) if BATCH in spec.shape else None
    row = tuple(length for length in spec.shape if isinstance(length, int))
    return StateTensor(spec.name, output, spec.dtype, row, axis)


def _without(manifest: Manifest, hidden: Any) -> Manifest:
    """The manifest of what is left; samples hold the states too, so it has none."""
    return msgspec.structs.replace(
        manifest,
        inputs=tuple(one for one in manifest.inputs if one.name not in hidden),
        outputs=tuple(one for one in manifest.outputs if one.name not in hidden),
        artefacts=tuple(msgspec.structs.replace(one, golden=UNSET) for one in manifest.artefacts),
        golden=None,
        input_processing={k: v for k, v in manifest.input_processing.items() if k not in hidden},
        output_processing={k: v for k, v in manifest.output_processing.items() if k not in hidden},
    )


def _rows_first(manifest: Manifest, axes: Mapping[str, int | None]) -> Manifest:
    def moved(entry: TensorEntry) -> TensorEntry:
        axis = axes.get(entry.name)
        if not axis:
            return entry
        shape = (entry.shape[axis], *entry.shape[:axis], *entry.shape[axis + 1 :])
        return TensorEntry(entry.name, entry.dtype, shape)

    return msgspec.structs.replace(
        manifest,
        inputs=tuple(map(moved, manifest.inputs)),
        outputs=tuple(map(moved, manifest.outputs)),
    )


class Axes(NamedTuple):
    """Which tensors have their rows elsewhere than first, and where."""

    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]

    def to_model(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The rows to where the model has them."""
        if not self.inputs:
            return inputs
        moved = dict(inputs)
        for name, axis in self.inputs:
            moved[name] = np.ascontiguousarray(np.moveaxis(moved[name], 0, axis))
        return moved

    def from_model(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """The rows first, as views."""
        moved = dict(outputs)
        for name, axis in self.outputs:
            # One that is not there, or too flat, is found out where its rows are given out.
            if name in moved and moved[name].ndim > axis:
                moved[name] = np.moveaxis(moved[name], axis, 0)
        return moved


def axes_of(layout: StateLayout) -> Axes:
    """What has to be moved before and after a run."""
    moved = [one for one in layout.tensors if one.axis]
    return Axes(
        tuple((one.input, one.axis or 0) for one in moved),
        tuple((one.output, one.axis or 0) for one in moved),
    )


class RowsFirst:
    """A session whose states have their rows first.

    Args:
        session: as it was loaded.
        axes: of its states.
    """

    def __init__(self, session: Session, axes: Axes) -> None:
        self.inputs, self.outputs = session.inputs, session.outputs
        self._session, self._axes = session, axes

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch."""
        return self._axes.from_model(self._session.run(self._axes.to_model(inputs)))

    def bind(self, _inputs: Mapping[str, Array], _outputs: Mapping[str, Array]) -> BoundRun | None:
        """Nothing is bound: states are in another memory each time."""
        return None

    def close(self) -> None:
        """Give back the session."""
        self._session.close()
