"""Runs of an ONNX Runtime session that has its tensors on a device: bound, not copied at will.

Each run binds its own inputs and outputs (``IOBinding``; making one takes a microsecond): inputs
from memory of the host that the device reads by itself, or from tensors that a model before left on
the device; outputs to such memory, or left on the device for the model after. A run has a lane of
its own, which keeps that memory for the next one; there are as many lanes as runs at once, up to a
limit, and further runs wait.

Nothing here knows CUDA but by the device's word: with ``cpu`` for it, the same code runs anywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from edged.errors import RunError
from edged.resident import Keeping, Resident, as_array, is_resident
from edged.runtimes.base import Artefact
from edged.runtimes.loss import run_error
from edged.runtimes.onnxruntime import OnnxSession, Placement, clean
from edged.runtimes.onnxruntime_lanes import CLOSED, Lane, Lanes, Pins, Ready
from edged.tensors import DTYPES, Array

log = logging.getLogger("edged.runtimes")

LANES = 4
"""Runs at once, as many as serving starts of one release; each holds its own tensors."""
_NOTHING: frozenset[str] = frozenset()


class Place(NamedTuple):
    """A device, as ONNX Runtime calls it: ``cpu`` or ``cuda``, and which of them."""

    word: str
    number: int

    def __str__(self) -> str:
        return f"{self.word}:{self.number}"


class _Room(NamedTuple):
    """Where an output is written; pinned memory is the lane's, and is copied before it goes on."""

    array: Array
    is_pinned: bool


class _Kept:
    """One output that stays on the device for as long as somebody refers to it.

    It keeps the binding, to which ONNX Runtime's value may be a mere reference, and the session,
    whose memory it is; they go in the order in which they need each other.
    """

    __slots__ = ("_binding", "_session", "_value", "pointer")

    def __init__(self, value: Any, binding: Any, session: Any) -> None:
        self._value, self._binding, self._session = value, binding, session
        self.pointer: int = value.data_ptr()

    def read(self) -> Array:
        """A copy on the host; raises RunError, and DeviceLostError where the device is gone."""
        try:
            array: Array = self._value.numpy()
        except Exception as exc:
            message = f"a tensor could not be fetched from its device: {clean(exc)}"
            raise run_error(message, str(exc)) from exc
        return array

    def __del__(self) -> None:
        self._value = None
        self._binding = None
        self._session = None


class OnnxDeviceSession(OnnxSession):
    """A loaded model whose tensors lie on a device. ``run`` may be called from several threads.

    Args:
        session: the backend's.
        artefact: what it was loaded from.
        placed: as for ``OnnxSession``.
        options: likewise.
        device: where its tensors lie.
        pins: gives memory that the device reads by itself; None where there is none.
        lanes: most runs at once.
    """

    def __init__(
        self,
        session: Any,
        artefact: Artefact,
        placed: Placement | None,
        options: Any,
        device: Place,
        *,
        pins: Pins | None = None,
        lanes: int = LANES,
    ) -> None:
        super().__init__(session, artefact, placed, options)
        self.device = device
        self.place = str(device)
        self._lanes = Lanes(pins, lanes)
        self._promised = {spec.name: spec for spec in (*artefact.inputs, *artefact.outputs)}
        self._is_foretold = True

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch; see ``Session.run``.

        Args:
            inputs: also ``Resident`` ones of its place; of ``Keeping`` ones the outputs named
                there come as ``Resident``.
        """
        keep = inputs.names if type(inputs) is Keeping else _NOTHING
        try:
            lane = self._lanes.take()
        except ValueError as exc:
            raise self._failed(str(exc)) from None
        session = self._session  # held here until everything that points into it is gone
        try:
            if session is None:
                raise self._failed(CLOSED)
            ready, lane.ready = lane.ready, None
            if ready is not None and not keep and ready.takes(inputs):
                made = self._run_again(session, ready, inputs)
                if made is not None:
                    lane.ready = ready
                    return made
            del ready  # it points into memory that may be given back now
            return self._run(session, lane, inputs, keep)
        finally:
            self._lanes.give(lane)

    def _run_again(
        self, session: Any, ready: Ready, inputs: Mapping[str, Array]
    ) -> dict[str, Array] | None:
        """The outputs; None where it failed, and the long way has to say why."""
        binding = ready.binding
        try:
            for name, room in ready.inputs.items():
                np.copyto(room, inputs[name])
                # Bound anew, for a device other than the CPU copies what is bound, when it is.
                at = room.ctypes.data
                binding.bind_input(name, "cpu", 0, room.dtype, room.shape, at)
            self._call_bound(session, binding)
        except Exception as exc:
            log.debug("%s: a binding did not run again: %s", self._where, clean(exc))
            return None
        return {name: room.copy() for name, room in ready.outputs.items()}

    def _call_bound(self, session: Any, binding: Any) -> None:
        # The package's own call looks into the options for something of WebGPU's, by an error that
        # it catches: 80 us. What lies below promises nothing; see ``OnnxSession``.
        inner = getattr(session, "_sess", session)
        inner.run_with_iobinding(getattr(binding, "_iobinding", binding), self._options)

    def _run(
        self, session: Any, lane: Lane, inputs: Mapping[str, Array], keep: frozenset[str]
    ) -> dict[str, Array]:
        given = self._given(lane, inputs)
        try:
            return self._bound_run(session, lane, given, keep, foretell=self._is_foretold)
        except RunError:
            if not self._is_foretold:
                raise
        # It may be that lengths are not what their names let one expect.
        made = self._bound_run(session, lane, given, keep, foretell=False)
        self._is_foretold = False
        log.info("%s: the lengths of its outputs are found out by each run", self._where)
        return made

    def _given(self, lane: Lane, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs where a run can read them; raises RunError for what is not of the signature.

        What is bound is an address: a tensor of another type or rank must never get there.
        """
        given: dict[str, Array] = {}
        for spec in self.inputs:
            array = inputs.get(spec.name)
            if array is None or len(inputs) != len(self.inputs):
                wanted = ", ".join(f'"{each.name}"' for each in self.inputs)
                raise self._failed(f"it takes {wanted}")
            dtype = DTYPES[spec.dtype].numpy
            if array.dtype != dtype or array.ndim != len(spec.shape):
                found = f"{array.dtype}{list(array.shape)}"
                raise self._failed(f'input "{spec.name}" is {found}, not {spec}')
            if is_resident(array) and array.place == self.place:
                given[spec.name] = as_array(array)
                continue
            here = np.asarray(array)
            room = lane.room(spec.name, dtype, here.shape, out=False)
            if room is None:
                is_plain = here.flags.c_contiguous and here.flags.aligned
                given[spec.name] = here if is_plain else np.require(here, requirements=("C", "A"))
            else:
                np.copyto(room, here)
                given[spec.name] = room
        return given

    def _bound_run(
        self,
        session: Any,
        lane: Lane,
        given: Mapping[str, Array],
        keep: frozenset[str],
        *,
        foretell: bool,
    ) -> dict[str, Array]:
        word, number = self.device
        rooms: dict[str, _Room] = {}
        try:
            binding = session.io_binding()
            for name, array in given.items():
                if is_resident(array):
                    where = (word, number, array.dtype, array.shape, array.pointer)
                else:
                    where = ("cpu", 0, array.dtype, array.shape, array.ctypes.data)
                binding.bind_input(name, *where)
            lengths = self._lengths(given) if foretell else None
            for spec in self.outputs:
                name = spec.name
                if name in keep:
                    binding.bind_output(name, word, number)
                elif lengths is None or (room := self._room(lane, name, lengths)) is None:
                    binding.bind_output(name, "cpu", 0)
                else:
                    rooms[name], to = room, room.array
                    binding.bind_output(name, "cpu", 0, to.dtype, to.shape, to.ctypes.data)
            self._call_bound(session, binding)
            values = binding.get_outputs()
        except Exception as exc:
            raise self._failed(clean(exc), str(exc)) from exc
        made: dict[str, Array] = {}
        for spec, value in zip(self.outputs, values, strict=True):
            if spec.name in keep:
                dtype, shape = DTYPES[spec.dtype].numpy, tuple(value.shape())
                memory = _Kept(value, binding, session)
                made[spec.name] = as_array(Resident(memory, self.place, dtype, shape))
            elif (room := rooms.get(spec.name)) is not None:
                made[spec.name] = room.array.copy() if room.is_pinned else room.array
            else:
                made[spec.name] = np.array(value.numpy())
        if keep:
            binding.clear_binding_inputs()  # what is kept would keep the inputs, too
        elif len(rooms) == len(self.outputs) and all(one.is_pinned for one in rooms.values()):
            outputs = {name: room.array for name, room in rooms.items()}
            if all(lane.is_own(name, array) for name, array in given.items()):
                lane.ready = Ready(binding, given, outputs)
        return made

    def _lengths(self, given: Mapping[str, Array]) -> dict[str, int]:
        """The length of each axis that has a name."""
        lengths: dict[str, int] = {}
        for name, array in given.items():
            axes = self._promised[name].shape
            lengths |= {a: n for a, n in zip(axes, array.shape, strict=True) if isinstance(a, str)}
        return lengths

    def _room(self, lane: Lane, name: str, lengths: Mapping[str, int]) -> _Room | None:
        """Memory for an output whose shape the inputs tell; None for any other."""
        spec = self._promised[name]
        shape: list[int] = []
        for axis in spec.shape:
            length = axis if isinstance(axis, int) else lengths.get(axis)
            if length is None:
                return None
            shape.append(length)
        dtype = DTYPES[spec.dtype].numpy
        pinned = lane.room(name, dtype, shape, out=True)
        if pinned is not None:
            return _Room(pinned, is_pinned=True)
        return _Room(np.empty(shape, dtype), is_pinned=False)

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Nothing: a run binds its tensors by itself."""
        del inputs, outputs

    def close(self) -> None:
        """Give back what the session holds; what stays on the device goes with whoever has it."""
        self._lanes.close()
        super().close()

    def _failed(self, why: str, words: str = "") -> RunError:
        return run_error(f"{self._where} failed while running: {why}", words)
