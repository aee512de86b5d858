"""Triton's model configurations."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from converters.registries.pbtxt import parse_config
from converters.registries.triton_ensemble import read_steps
from converters.registries.triton_model import TritonModel, dtype_of
from converters.registries.triton_settings import batching_of, edged_settings
from edged.config.schema import ModelConfig
from edged.errors import EdgedError


def run_pbtxt(data: bytes) -> None:
    """A Triton configuration that is accepted can be judged to the end, and its sums fit edged's."""
    try:
        config, _ = parse_config(data.decode("utf-8", "replace"))
    except EdgedError:
        return
    model = TritonModel("m", Path("/m"), config, "onnxruntime", (1,))
    section = edged_settings(model, batching_of(model, could_batch=True))
    msgspec.convert({"bundle": "m.edgb", **section}, ModelConfig, dec_hook=_quantity)
    for entry in (*config.input, *config.output):
        dtype_of(entry)
    with contextlib.suppress(EdgedError):
        read_steps(model)


def _quantity(kind: type, value: object) -> object:
    return kind.parse(value)  # type: ignore[attr-defined]


def seed_pbtxt() -> list[bytes]:
    return [line.encode("ascii") for line in _PBTXT.split("\n\n")]


_PBTXT = """\
name: "m" platform: 'onnxruntime_onnx' max_batch_size: 8 output { name: "y" dims: 2 }
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] reshape { shape: [ 3, -1 ] } } ]

dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100
default_queue_policy { max_queue_size: 9 } } instance_group [ { count: 2 kind: KIND_CPU } ]

ensemble_scheduling { step [ { model_name: "a" model_version: -1 input_map { key: "x" value: "i" }
output_map { key: "y" value: "o" } } ] max_inflight_requests: 2 }

version_policy { specific { versions: [ 1, 3 ] } } parameters { key: "k" value { string_value: "v" } }
model_warmup { inputs { key: "x" value { dims: 1 zero_data: true } } }

novelty < a: [ 1, { b: "c" } ] > optimization { graph { level: 1 } }"""
