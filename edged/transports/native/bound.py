"""A prepared call that reads and writes memory which its client lends: where, and what is copied.

A client may write to its memory while it is read. Numbers that a model computes with are taken from
where they lie: what comes out of a race is the client's own concern. Numbers that may be places in
memory to the model (indices, shapes, lengths) are copied first: a kernel that has checked them must
not find others when it uses them. The same holds for outputs that the model reads back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from edged.errors import EdgedError, TensorMismatchError
from edged.messages import InferResponse, LentInputs
from edged.protocol import prepared_runs
from edged.protocol.frames import Buffer
from edged.protocol.lane import LANE_ROWS, LoneRun
from edged.protocol.layout import COPY_BYTES, BodyLayout
from edged.protocol.memory import ALIGNED, NEAR_BYTES
from edged.tensors import Array
from edged.transports.native.door import Prepared

_PLACES = frozenset(("bool", "int32", "int64", "uint32", "uint64"))
"""What indices, shapes and conditions are made of."""
_COPIED_AT_ONCE = 1 << 20
"""A tenth of a millisecond; a lone run on the loop that copies more delays others too long."""


class Fixed(NamedTuple):
    """What a handle stands for.

    Args:
        call: that the dataplane prepared.
        inputs: its layout.
        outputs: the layout of its answers; None when that is not known.
        rows: of every request; 0 where no axis was left free.
    """

    call: Prepared
    inputs: BodyLayout
    outputs: BodyLayout | None
    rows: int


def may_stay(array: Array) -> bool:
    """Whether a runtime may read or write a tensor in the client's memory itself."""
    is_aligned: bool = array.ctypes.data % ALIGNED == 0
    return is_aligned and array.nbytes > COPY_BYTES and array.dtype.name not in _PLACES


def check_bools(name: str, array: Array) -> None:
    """Refuse what is no truth value; ``array`` must be ours.

    Raises:
        TensorMismatchError: a byte is neither 0 nor 1.
    """
    if array.dtype.name == "bool" and array.size and array.view(np.uint8).max() > 1:
        # Reading such a byte as a bool is undefined in the C++ of every runtime.
        raise TensorMismatchError(f'"{name}": a byte of a bool is not one of 0 and 1')


class Bound:
    """Requests of one handle of BIND.

    Args:
        fixed: what was prepared.
        inputs: where each input is read, read-only arrays in the client's memory.
        targets: where outputs are written, for those that have a place.
        regions: the numbers of the regions they lie in.
    """

    def __init__(
        self,
        fixed: Fixed,
        inputs: Mapping[str, Array],
        targets: Mapping[str, Array],
        regions: frozenset[int],
    ) -> None:
        self.call, self.rows = fixed.call, fixed.rows
        self.regions = regions
        self._inputs, self._targets = inputs, targets
        self._stays = frozenset(name for name, array in inputs.items() if may_stay(array))
        self._answers = fixed.outputs
        # What has no place comes in the body; with no layout at all everything does.
        specs = () if fixed.outputs is None else fixed.outputs.specs
        self._rest = BodyLayout([spec for spec in specs if spec.name not in targets])
        self._lone: _Lone | None = None
        in_place = sum(inputs[name].nbytes for name in self._stays)
        self.is_large = in_place >= NEAR_BYTES
        """Whether runs read so much where it lies that it matters which core wrote it."""

    def follow(self, call: Prepared) -> None:
        """Ask through this one from now on."""
        self.call = call
        self._lone = None

    def ask_alone(self, request_id: int, origin: str, key: str | None = None) -> bytes | None:
        """Answer a request whose asker has the loop to itself; None when that cannot be."""
        lone = self._lone
        if lone is None or not lone.is_current:
            self._lone = lone = self._make_lone()
            if lone is None:
                return None
        return lone.ask(request_id, origin, key)

    def read(self) -> LentInputs:
        """The inputs of one request.

        Raises:
            TensorMismatchError: a bool that is none.
        """
        found = LentInputs()
        for name, array in self._inputs.items():
            if name in self._stays:
                found[name] = array
            else:
                found[name] = array.copy()
                check_bools(name, found[name])
        return found

    def answer(self, request_id: int, response: InferResponse) -> list[Buffer] | None:
        """Write outputs to their places; the frame that says so.

        Returns:
            The ANSWER frame; None when the outputs are not the announced ones, and all of them are
            to be sent as they are.
        """
        if self._answers is None:
            return None
        outputs = response.outputs
        for name, target in self._targets.items():
            given = outputs.get(name)
            if given is None or given.shape != target.shape or given.dtype != target.dtype:
                return None
        for name, target in self._targets.items():
            if outputs[name] is not target:
                target[...] = outputs[name]
        rest = InferResponse(
            response.model,
            response.release,
            response.generation,
            {name: array for name, array in outputs.items() if name not in self._targets},
            None,
            response.queue_ns,
            response.run_ns,
            response.batch_rows,
        )
        return prepared_runs.encode_answer(request_id, rest, self._rest, self.rows)

    def _make_lone(self) -> _Lone | None:
        answers, call, rows = self._answers, self.call, self.rows
        body = self._rest.body_bytes(rows if self._rest.has_rows else 0)
        if answers is None or rows > LANE_ROWS or body > COPY_BYTES or call.is_apart:
            return None
        copied = [array.nbytes for name, array in self._inputs.items() if name not in self._stays]
        copied += [array.nbytes for array in self._targets.values() if not may_stay(array)]
        if sum(copied) > _COPIED_AT_ONCE:
            return None
        lone = _Lone(self._rest, rows, self._inputs, self._stays, self._targets)
        try:
            lone.run = call.bind(lone.inputs, lone.outputs(answers), rows)
        except EdgedError:
            return None
        return lone


class _Lone:
    """Runs of an asker who is alone, from and to memory that is fixed.

    Args:
        rest: the layout of the answer's body.
        rows: of every request.
        inputs: as for Bound.
        stays: those that are read where they lie.
        targets: as for Bound.
    """

    def __init__(
        self,
        rest: BodyLayout,
        rows: int,
        inputs: Mapping[str, Array],
        stays: frozenset[str],
        targets: Mapping[str, Array],
    ) -> None:
        self.run: LoneRun | None = None
        self.inputs = {
            name: array if name in stays else np.empty_like(array) for name, array in inputs.items()
        }
        self._read = [(self.inputs[name], inputs[name]) for name in inputs if name not in stays]
        self._bools = [(name, array) for name, array in self.inputs.items() if array.dtype == bool]
        rows = rows if rest.has_rows else 0
        size = rest.body_bytes(rows)
        self._answer = bytearray(prepared_runs.ANSWER_BODY + size)
        self._head = (size, rows)
        self._rest = rest.unpack(self._answer, prepared_runs.ANSWER_BODY, rows)
        self._targets = targets
        self._written: list[tuple[Array, Array]] = []

    @property
    def is_current(self) -> bool:
        """Whether it may be used again."""
        return self.run is not None and self.run.is_current

    def outputs(self, answers: BodyLayout) -> dict[str, Array]:
        """Where the run writes, in the order of the layout."""
        outputs = {}
        for spec in answers.specs:
            target = self._targets.get(spec.name)
            if target is None:
                outputs[spec.name] = self._rest[spec.name]
            elif may_stay(target):
                outputs[spec.name] = target
            else:
                outputs[spec.name] = private = np.empty_like(target)
                self._written.append((target, private))
        return outputs

    def ask(self, request_id: int, origin: str, key: str | None = None) -> bytes | None:
        """Run now; None when that has to go the usual way, which says what is wrong."""
        run = self.run
        if run is None:
            return None
        for private, place in self._read:
            private[...] = place
        for name, array in self._bools:
            try:
                check_bools(name, array)
            except TensorMismatchError:
                return None
        ran = run.run(origin, key)
        if ran is None:
            return None
        for place, private in self._written:
            place[...] = private
        prepared_runs.write_answer_head(self._answer, request_id, ran, self._head)
        return bytes(self._answer)
