"""A step of one's own: values beyond what a sensor can measure are brought back, and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edged.tensors import Array, TensorSpec


class Clamp:
    """Options: ``low`` and ``high``."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.low, self.high = float(options.pop("low", 0.0)), float(options.pop("high", 1.0))
        if options:
            raise ValueError(f"unknown options: {', '.join(sorted(options))}; there are low, high")
        if not self.low < self.high:
            raise ValueError(f"low is {self.low:g}, high {self.high:g}; expected low below high")

    def outputs(self, inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        """Say what comes out of what: tensors of the same shape."""
        spec = inputs.get("values")
        if spec is None or len(inputs) != 1 or spec.dtype != "float32":
            raise ValueError("expected one input, values, of float32")
        return [
            TensorSpec("values", "float32", spec.shape),
            TensorSpec("beyond", "bool", spec.shape),
        ]

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Do it; the input is not changed."""
        values = inputs["values"]
        held = np.clip(values, np.float32(self.low), np.float32(self.high))
        return {"values": held, "beyond": held != values}
