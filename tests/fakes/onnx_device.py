"""A device of its own for ONNX Runtime's bindings: its memory is told apart, its copies counted.

The models really run, on the CPU provider; only where a tensor lies is pretended. An address that
is none of this device's memory, or no longer, ends the run, as it would on a GPU.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import onnxruntime as ort

from edged.runtimes.base import Artefact
from edged.runtimes.cuda import Pinned
from edged.runtimes.onnxruntime import OnnxRuntime, OnnxSession, Placement
from edged.runtimes.onnxruntime_device import LANES, OnnxDeviceSession, Place
from edged.runtimes.onnxruntime_lanes import Pins


class FakeDevice:
    """What all sessions of one device share."""

    def __init__(self, word: str = "cuda") -> None:
        self.word = word
        self.copies_in = self.copies_out = self.bindings = 0
        self.fail = 0
        """So many runs and fetches fail from now on."""
        self.live: dict[int, int] = {}
        """By address, bytes of a tensor that lies there."""

    @property
    def copies(self) -> tuple[int, int]:
        """Tensors that went to the device, and that came back."""
        return self.copies_in, self.copies_out

    def spend(self) -> None:
        if self.fail:
            self.fail -= 1
            raise RuntimeError("CUDA failure 719: unspecified launch failure ; GPU=0")

    def check(self, pointer: int, size: int) -> None:
        if not any(at <= pointer and pointer + size <= at + n for at, n in self.live.items()):
            raise RuntimeError("an illegal memory access was encountered")


class FakeBackendSession:
    """The package's session, with its tensors on the device."""

    def __init__(self, real: Any, device: FakeDevice) -> None:
        self.real = real
        self.device = device
        self.get_inputs, self.get_outputs = real.get_inputs, real.get_outputs
        self.run, self.get_providers = real.run, real.get_providers

    def io_binding(self) -> FakeBinding:
        self.device.bindings += 1
        return FakeBinding(self.real.io_binding(), self.device, self)

    def run_with_iobinding(self, iobinding: FakeBinding, run_options: Any = None) -> None:
        self.device.spend()
        self.real.run_with_iobinding(iobinding.real, run_options)
        self.device.copies_out += iobinding.to_host


class FakeBinding:
    """The package's binding."""

    def __init__(self, real: Any, device: FakeDevice, session: FakeBackendSession) -> None:
        self.real = real
        self.device = device
        self.session = weakref.ref(session)
        self.words: list[str] = []
        self.copied: dict[str, FakeCopy] = {}

    @property
    def to_host(self) -> int:
        return self.words.count("cpu")

    def bind_input(
        self,
        name: str,
        device_type: str,
        device_id: int,
        element_type: Any,
        shape: Any,
        buffer_ptr: int,
    ) -> None:
        if device_type == self.device.word:
            self.device.check(buffer_ptr, int(np.prod(shape)) * np.dtype(element_type).itemsize)
        else:
            assert device_type == "cpu"
            self.device.copies_in += 1
            self.copied[name] = FakeCopy(self.device, int(np.prod(shape)))
        self.real.bind_input(name, "cpu", device_id, element_type, shape, buffer_ptr)

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Any = None,
        buffer_ptr: int | None = None,
    ) -> None:
        assert device_type in ("cpu", self.device.word)
        self.words.append(device_type)
        self.real.bind_output(name, "cpu", device_id, element_type, shape, buffer_ptr)

    def get_outputs(self) -> list[Any]:
        values = self.real.get_outputs()
        return [
            FakeValue(value, self) if word == self.device.word else value
            for word, value in zip(self.words, values, strict=True)
        ]

    def clear_binding_inputs(self) -> None:
        self.real.clear_binding_inputs()
        self.copied.clear()


class FakeCopy:
    """What a binding has on the device of an input of the host."""

    def __init__(self, device: FakeDevice, size: int) -> None:
        device.live[-id(self)] = size
        weakref.finalize(self, device.live.pop, -id(self), None)


class FakeValue:
    """A tensor that lies on the device until nothing refers to it.

    As the package may do it, it is a mere reference into its binding, and that into its session.
    """

    def __init__(self, real: Any, binding: FakeBinding) -> None:
        self.real = real
        self.device = device = binding.device
        self.needs = weakref.ref(binding), binding.session
        self.data_ptr, self.shape = real.data_ptr, real.shape
        pointer = real.data_ptr()
        device.live[pointer] = real.numpy().nbytes
        weakref.finalize(self, device.live.pop, pointer, None)

    def numpy(self) -> Any:
        assert all(one() is not None for one in self.needs), "it points to what is no more"
        self.device.spend()
        self.device.copies_out += 1
        return np.array(self.real.numpy())


class FakePins:
    """Pinned memory, counted.

    Args:
        fails: there is none to be had.
    """

    def __init__(self, *, fails: type[Exception] | None = None) -> None:
        self.live: dict[int, Any] = {}
        self.taken = 0
        self.fails = fails

    def use(self) -> None:
        """Nothing to do for a fake."""

    def pin(self, size: int) -> Pinned:
        if self.fails is not None:
            raise self.fails("none left")
        made = Pinned(np.full(size, 0xA5, "u1"), 0)
        self.live[id(made)] = made
        self.taken += 1
        return made

    def unpin(self, pinned: Pinned) -> None:
        del self.live[id(pinned)]
        pinned.array[:] = 0xEE  # whoever still reads it sees that


class DeviceRuntime(OnnxRuntime):
    """ONNX Runtime as on a GPU, where there is none.

    Args:
        device: pretended; None for the CPU provider with the same code, and nothing pretended.
        pins: pinned memory.
        lanes: most runs at once.
    """

    def __init__(
        self, device: FakeDevice | None = None, pins: Pins | None = None, lanes: int = LANES
    ) -> None:
        super().__init__(threads=1)
        self.device, self.pins, self.lanes = device, pins, lanes

    def load(self, artefact: Artefact) -> OnnxDeviceSession:
        made = super().load(artefact)
        assert isinstance(made, OnnxDeviceSession)
        return made

    def _session(
        self, session: Any, artefact: Artefact, placed: Placement | None, run_options: Any
    ) -> OnnxSession:
        place = Place("cpu", 0)
        if self.device is not None:
            session, place = FakeBackendSession(session, self.device), Place(self.device.word, 0)
        return OnnxDeviceSession(
            session, artefact, placed, run_options, place, pins=self.pins, lanes=self.lanes
        )


REAL = {FakeBackendSession: ort.InferenceSession, FakeBinding: ort.IOBinding}
"""Whose calls the fakes must have, with the same arguments."""
