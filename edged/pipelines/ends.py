"""The first and the last bytes of something as numbers: what tells kinds of files apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edged.config.pipeline_text import EndsConfig
from edged.errors import FieldError
from edged.pipelines.arrays import RESULT
from edged.pipelines.step import Values, Work
from edged.tensors import Array, TensorSpec


def ends_work(config: EndsConfig) -> Work:
    """One row of whole numbers: the head, filled up after it, and the tail, filled up before it.

    Raises:
        FieldError: settings that exclude each other.
    """
    if not config.head + config.tail:
        raise FieldError("ends.head", "and tail are 0; one of them must be more")
    if config.block and config.block < max(config.head, config.tail):
        raise FieldError("ends.block", f"is {config.block}, less than head or tail")

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        spec = inputs["from"]
        if spec.dtype != "uint8" or len(spec.shape) != 1:
            raise FieldError("ends.from", f"is {spec}; expected bytes, uint8[length]")
        return [TensorSpec(RESULT, "int32", (1, config.head + config.tail))]

    def run(values: Values) -> Values:
        made = np.full((1, config.head + config.tail), config.pad, np.int32)
        head, tail = _head(values["from"], config), _tail(values["from"], config)
        made[0, : len(head)] = head
        made[0, made.shape[1] - len(tail) :] = tail
        return {RESULT: made}

    return Work({"from": config.from_}, outputs, run)


def _head(data: Array, config: EndsConfig) -> Array:
    if not config.strip:
        return data[: config.head]
    block = data[: config.block or len(data)].tobytes().lstrip()
    return np.frombuffer(block, np.uint8)[: config.head]


def _tail(data: Array, config: EndsConfig) -> Array:
    if config.strip:
        start = max(len(data) - config.block, 0) if config.block else 0
        data = np.frombuffer(data[start:].tobytes().rstrip(), np.uint8)
    return data[max(len(data) - config.tail, 0) :]
