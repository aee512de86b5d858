"""Reading Triton's ``config.pbtxt``: protobuf's own text reader over definitions made at run time.

The definitions live in a private pool: another package of the same process may bring Triton's own.
Field numbers are ours, because text has none. Source: the field tables of Triton's model
configuration documentation; a test holds the names against Triton's client where it is installed.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from converters.errors import ConversionError
from converters.registries.files import read_text

MAX_CONFIG_BYTES = 1 << 20
"""A configuration is a page; one with a thousand columns as inputs still fits."""

ENUMS = {
    "DataType": "TYPE_INVALID TYPE_BOOL TYPE_UINT8 TYPE_UINT16 TYPE_UINT32 TYPE_UINT64 TYPE_INT8 "
    "TYPE_INT16 TYPE_INT32 TYPE_INT64 TYPE_FP16 TYPE_FP32 TYPE_FP64 TYPE_STRING TYPE_BF16",
    "Format": "FORMAT_NONE FORMAT_NHWC FORMAT_NCHW",
    "Kind": "KIND_AUTO KIND_GPU KIND_CPU KIND_MODEL",
    "DeviceKind": "KIND_NVDLA",
    "BatchInputKind": "BATCH_ELEMENT_COUNT BATCH_ACCUMULATED_ELEMENT_COUNT "
    "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO BATCH_MAX_ELEMENT_COUNT_AS_SHAPE BATCH_ITEM_SHAPE "
    "BATCH_ITEM_SHAPE_FLATTEN",
    "BatchOutputKind": "BATCH_SCATTER_WITH_INPUT_SHAPE",
    "Priority": "PRIORITY_DEFAULT PRIORITY_MAX PRIORITY_MIN",
    "TimeoutAction": "REJECT DELAY",
    "ControlKind": "CONTROL_SEQUENCE_START CONTROL_SEQUENCE_READY CONTROL_SEQUENCE_END "
    "CONTROL_SEQUENCE_CORRID",
}
"""Values in order, from 0."""

MESSAGES = {
    "ModelConfig": "name:string platform:string backend:string runtime:string "
    "version_policy:VersionPolicy max_batch_size:int32 input:Input* output:Output* "
    "batch_input:BatchInput* batch_output:BatchOutput* optimization:Optimization "
    "dynamic_batching:DynamicBatching sequence_batching:SequenceBatching "
    "ensemble_scheduling:Ensemble instance_group:InstanceGroup* default_model_filename:string "
    "cc_model_filenames:Text{} metric_tags:Text{} parameters:Parameter{} model_warmup:Warmup* "
    "model_operations:Operations model_transaction_policy:Transaction "
    "model_repository_agents:Agents response_cache:Cache model_metrics:Metrics",
    "Input": "name:string data_type:DataType format:Format dims:int64* reshape:Reshape "
    "is_shape_tensor:bool allow_ragged_batch:bool optional:bool is_non_linear_format_io:bool",
    "Output": "name:string data_type:DataType dims:int64* reshape:Reshape label_filename:string "
    "is_shape_tensor:bool is_non_linear_format_io:bool",
    "Reshape": "shape:int64*",
    "BatchInput": "kind:BatchInputKind target_name:string* data_type:DataType source_input:string*",
    "BatchOutput": "target_name:string* kind:BatchOutputKind source_input:string*",
    "VersionPolicy": "latest:Latest all:Empty specific:Specific",
    "Latest": "num_versions:uint32",
    "Specific": "versions:int64*",
    "Empty": "",
    "Text": "value:string",
    "Parameter": "string_value:string",
    "InstanceGroup": "name:string kind:Kind count:int32 rate_limiter:RateLimiter gpus:int32* "
    "secondary_devices:SecondaryDevice* profile:string* passive:bool host_policy:string",
    "SecondaryDevice": "kind:DeviceKind device_id:int64",
    "RateLimiter": "resources:Resource* priority:uint32",
    "Resource": "name:string global:bool count:uint32",
    "Optimization": "graph:Graph priority:Priority cuda:Cuda execution_accelerators:Accelerators "
    "input_pinned_memory:Enable output_pinned_memory:Enable gather_kernel_buffer_threshold:uint32 "
    "eager_batching:bool",
    "Graph": "level:int32",
    "Enable": "enable:bool",
    "Cuda": "graphs:bool busy_wait_events:bool graph_spec:GraphSpec* output_copy_stream:bool",
    "GraphSpec": "batch_size:int32 input:Shape{} graph_lower_bound:LowerBound",
    "LowerBound": "batch_size:int32 input:Shape{}",
    "Shape": "dim:int64*",
    "Accelerators": "gpu_execution_accelerator:Accelerator* cpu_execution_accelerator:Accelerator*",
    "Accelerator": "name:string parameters:Text{}",
    "DynamicBatching": "preferred_batch_size:int32* max_queue_delay_microseconds:uint64 "
    "preserve_ordering:bool priority_levels:uint64 default_priority_level:uint64 "
    "default_queue_policy:QueuePolicy priority_queue_policy:QueuePolicy{uint64}",
    "QueuePolicy": "timeout_action:TimeoutAction default_timeout_microseconds:uint64 "
    "allow_timeout_override:bool max_queue_size:uint32",
    "SequenceBatching": "direct:Direct oldest:Oldest max_sequence_idle_microseconds:uint64 "
    "control_input:ControlInput* state:State* iterative_sequence:bool",
    "Direct": "max_queue_delay_microseconds:uint64 minimum_slot_utilization:float",
    "Oldest": "max_candidate_sequences:int32 preferred_batch_size:int32* "
    "max_queue_delay_microseconds:uint64 preserve_ordering:bool",
    "ControlInput": "name:string control:Control*",
    "Control": "kind:ControlKind int32_false_true:int32* fp32_false_true:float* "
    "bool_false_true:bool* data_type:DataType",
    "State": "input_name:string output_name:string data_type:DataType dims:int64* "
    "initial_state:InitialState* use_same_buffer_for_input_output:bool use_growable_memory:bool",
    "InitialState": "data_type:DataType dims:int64* zero_data:bool data_file:string name:string",
    "Ensemble": "step:Step* max_inflight_requests:uint32",
    "Step": "model_name:string model_version:int64 input_map:Text{} output_map:Text{} "
    "model_namespace:string",
    "Warmup": "name:string batch_size:uint32 inputs:WarmupInput{} count:uint32",
    "WarmupInput": "data_type:DataType dims:int64* zero_data:bool random_data:bool "
    "input_data_file:string",
    "Operations": "op_library_filename:string*",
    "Transaction": "decoupled:bool",
    "Agents": "agents:Agent*",
    "Agent": "name:string parameters:Text{}",
    "Cache": "enable:bool",
    "Metrics": "metric_control:MetricControl*",
    "MetricControl": "metric_identifier:MetricIdentifier histogram_options:HistogramOptions",
    "MetricIdentifier": "family:string",
    "HistogramOptions": "buckets:double*",
}
"""``name:type``; ``*`` repeated, ``{}`` a map from text (``{uint64}`` from a number). A map of Text
is one of plain texts."""

CHOICES = {
    "ModelConfig": ("dynamic_batching", "sequence_batching", "ensemble_scheduling"),
    "VersionPolicy": ("latest", "all", "specific"),
    "SequenceBatching": ("direct", "oldest"),
    "WarmupInput": ("zero_data", "random_data", "input_data_file"),
    "InitialState": ("zero_data", "data_file"),
}
"""Fields of which a message has one at most."""

_UNKNOWN = re.compile(r'has no field named "([^"]*)"')
_PACKAGE = "edged.triton"
_FIELD = descriptor_pb2.FieldDescriptorProto


def read_config(path: Path) -> tuple[Any, list[str]]:
    """Read a configuration.

    Returns:
        The ModelConfig message, and what was not understood (Triton's newer fields).

    Raises:
        ConversionError: it cannot be read; says line and column.
    """
    text = read_text(path, MAX_CONFIG_BYTES)
    try:
        return parse_config(text)
    except ConversionError as exc:
        raise ConversionError(f"{path.parent.name}/{path.name}: {exc.message}") from exc


def parse_config(text: str) -> tuple[Any, list[str]]:
    """As ``read_config``, for text."""
    kind = _model_config()
    try:
        return text_format.Parse(text, kind()), []
    except text_format.ParseError as exc:
        unknown = _UNKNOWN.search(str(exc))
        if unknown is None:
            raise _refuse(exc) from exc
        found = f'line {exc.GetLine()}: the field "{unknown[1]}" is not known here'
    except RecursionError as exc:
        raise ConversionError("is nested too deeply for a configuration") from exc
    except ValueError as exc:
        raise ConversionError(f"cannot be read: {exc}") from exc
    try:
        config = text_format.Parse(text, kind(), allow_unknown_field=True)
    except text_format.ParseError as exc:
        raise _refuse(exc) from exc
    except RecursionError as exc:
        raise ConversionError("is nested too deeply for a configuration") from exc
    except ValueError as exc:
        raise ConversionError(f"cannot be read: {exc}") from exc
    return config, [f"{found} and was passed over, as is any other unknown one"]


def _refuse(exc: text_format.ParseError) -> ConversionError:
    reason = re.sub(r"^\d+:\d+ : ", "", str(exc))
    reason = reason.replace(f"{_PACKAGE}.", "")[:300]
    place = f"line {exc.GetLine()}, column {exc.GetColumn()}: " if exc.GetLine() else ""
    return ConversionError(f"{place}{reason}")


@cache
def _model_config() -> Any:
    """The class of ModelConfig, in a pool of its own."""
    # proto2, so that a number that is written can be told from one that is not.
    file = descriptor_pb2.FileDescriptorProto(
        name="edged_triton.proto", package=_PACKAGE, syntax="proto2"
    )
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values.split()):
            enum.value.add(name=value, number=number)
    for name, fields in MESSAGES.items():
        _add_message(file.message_type.add(name=name), fields.split(), CHOICES.get(name, ()))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.ModelConfig"))


def _add_message(message: Any, fields: list[str], choices: tuple[str, ...]) -> None:
    if choices:
        message.oneof_decl.add(name="choice")
    for number, text in enumerate(fields, start=1):
        name, _, kind = text.partition(":")
        field = message.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL)
        if name in choices:
            field.oneof_index = 0
        if kind.endswith("*"):
            field.label = _FIELD.LABEL_REPEATED
            _set_type(field, kind.removesuffix("*"))
        elif kind.endswith("}"):
            value, _, key = kind.removesuffix("}").partition("{")
            _add_map(message, field, value, key or "string")
        else:
            _set_type(field, kind)


def _add_map(message: Any, field: Any, value: str, key: str) -> None:
    entry = "".join(part.capitalize() for part in field.name.split("_")) + "Entry"
    nested = message.nested_type.add(name=entry)
    nested.options.map_entry = True
    _set_type(nested.field.add(name="key", number=1, label=_FIELD.LABEL_OPTIONAL), key)
    kind = "string" if value == "Text" else value
    _set_type(nested.field.add(name="value", number=2, label=_FIELD.LABEL_OPTIONAL), kind)
    field.label = _FIELD.LABEL_REPEATED
    field.type = _FIELD.TYPE_MESSAGE
    field.type_name = f".{_PACKAGE}.{message.name}.{entry}"


def _set_type(field: Any, kind: str) -> None:
    if kind in ENUMS:
        field.type, field.type_name = _FIELD.TYPE_ENUM, f".{_PACKAGE}.{kind}"
    elif kind in MESSAGES:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = getattr(_FIELD, f"TYPE_{kind.upper()}")
