"""The messages of the Open Inference Protocol over gRPC: which field has which number.

Those that are served, and of a model's configuration the fields that are told. Triton's extensions
and KServe's base have the same numbers.
Source: KServe ``open_inference_grpc.proto``; Triton's ``grpc_service.proto`` and
``model_config.proto``; gRPC's ``health.proto``.
"""

from __future__ import annotations

from typing import Final

from edged.protocol.protobuf import Field, Kind, Schema


def _text(*names: str) -> dict[int, Field]:
    """Strings, numbered from 1."""
    return {number: Field(name, Kind.STRING) for number, name in enumerate(names, 1)}


def _map(name: str, value: Field) -> Field:
    return Field(name, Kind.MAP, schema=Schema({1: Field("key", Kind.STRING), 2: value}))


def _messages(name: str, schema: Schema) -> Field:
    return Field(name, Kind.MESSAGE, many=True, schema=schema)


def _one(name: str, schema: Schema) -> Field:
    return Field(name, Kind.MESSAGE, schema=schema)


def _shape(name: str) -> Field:
    return Field(name, Kind.INT, many=True)


NOTHING: Final = Schema({})
NAME_VERSION: Final = Schema(_text("name", "version"))
"""What ModelReady, ModelMetadata, ModelConfig and ModelStatistics are asked with."""
LIVE: Final = Schema({1: Field("live", Kind.BOOL)})
READY: Final = Schema({1: Field("ready", Kind.BOOL)})

_PARAMETER: Final = Schema(
    {
        1: Field("bool", Kind.BOOL),
        2: Field("int64", Kind.INT),
        3: Field("string", Kind.STRING),
        4: Field("double", Kind.DOUBLE),
        5: Field("uint64", Kind.UINT),
    },
    is_choice=True,
)
_PARAMETERS: Final = _map("parameters", _one("value", _PARAMETER))
CONTENTS: Final = Schema(
    {
        1: Field("bool_contents", Kind.BOOL, many=True),
        2: Field("int_contents", Kind.INT, many=True),
        3: Field("int64_contents", Kind.INT, many=True),
        4: Field("uint_contents", Kind.UINT, many=True),
        5: Field("uint64_contents", Kind.UINT, many=True),
        6: Field("fp32_contents", Kind.FLOAT, many=True),
        7: Field("fp64_contents", Kind.DOUBLE, many=True),
        8: Field("bytes_contents", Kind.BYTES, many=True),
    }
)
_TENSOR: Final = Schema(
    {
        **_text("name", "datatype"),
        3: _shape("shape"),
        4: _PARAMETERS,
        5: _one("contents", CONTENTS),
    }
)
_REQUESTED: Final = Schema({1: Field("name", Kind.STRING), 2: _PARAMETERS})
INFER_REQUEST: Final = Schema(
    {
        **_text("model_name", "model_version", "id"),
        4: _PARAMETERS,
        5: _messages("inputs", _TENSOR),
        6: _messages("outputs", _REQUESTED),
        7: Field("raw_input_contents", Kind.BYTES, many=True),
    }
)
INFER_RESPONSE: Final = Schema(
    {
        **_text("model_name", "model_version", "id"),
        4: _PARAMETERS,
        5: _messages("outputs", _TENSOR),
        6: Field("raw_output_contents", Kind.BYTES, many=True),
    }
)
STREAM_RESPONSE: Final = Schema(
    {1: Field("error_message", Kind.STRING), 2: _one("infer_response", INFER_RESPONSE)}
)

_CONTROL_PARAMETER: Final = Schema(
    {
        1: Field("bool", Kind.BOOL),
        2: Field("int64", Kind.INT),
        3: Field("string", Kind.STRING),
        4: Field("bytes", Kind.BYTES),
    },
    is_choice=True,
)
MODEL_CONTROL: Final = Schema(
    {
        **_text("repository_name", "model_name"),
        3: _map("parameters", _one("value", _CONTROL_PARAMETER)),
    }
)
"""What RepositoryModelLoad and RepositoryModelUnload are asked with."""
_LOG_VALUE: Final = Schema(
    {
        1: Field("bool", Kind.BOOL),
        2: Field("uint32", Kind.UINT),
        3: Field("string", Kind.STRING),
    },
    is_choice=True,
)
LOG_SETTINGS: Final = Schema({1: _map("settings", _one("value", _LOG_VALUE))})
"""What LogSettings is asked with, and what it answers."""
_TRACE_VALUE: Final = Schema({1: Field("value", Kind.STRING, many=True)})
TRACE_SETTINGS: Final = Schema(
    {1: _map("settings", _one("value", _TRACE_VALUE)), 2: Field("model_name", Kind.STRING)}
)
"""What TraceSetting is asked with; it answers without the model."""

_METADATA_TENSOR: Final = Schema({**_text("name", "datatype"), 3: _shape("shape")})
SERVER_METADATA: Final = Schema(
    {**_text("name", "version"), 3: Field("extensions", Kind.STRING, many=True)}
)
MODEL_METADATA: Final = Schema(
    {
        1: Field("name", Kind.STRING),
        2: Field("versions", Kind.STRING, many=True),
        3: Field("platform", Kind.STRING),
        4: _messages("inputs", _METADATA_TENSOR),
        5: _messages("outputs", _METADATA_TENSOR),
    }
)

_DURATION: Final = Schema({1: Field("count", Kind.UINT), 2: Field("ns", Kind.UINT)})
_INFER_STATISTICS: Final = Schema(
    {
        number: _one(name, _DURATION)
        for number, name in enumerate(
            (
                "success",
                "fail",
                "queue",
                "compute_input",
                "compute_infer",
                "compute_output",
                "cache_hit",
                "cache_miss",
            ),
            1,
        )
    }
)
_MODEL_STATISTICS: Final = Schema(
    {
        **_text("name", "version"),
        3: Field("last_inference", Kind.UINT),
        4: Field("inference_count", Kind.UINT),
        5: Field("execution_count", Kind.UINT),
        6: _one("inference_stats", _INFER_STATISTICS),
    }
)
STATISTICS: Final = Schema({1: _messages("model_stats", _MODEL_STATISTICS)})

INDEX_REQUEST: Final = Schema(
    {1: Field("repository_name", Kind.STRING), 2: Field("ready", Kind.BOOL)}
)
INDEX: Final = Schema({1: _messages("models", Schema(_text("name", "version", "state", "reason")))})

_DATA_TYPE: Final = Field("data_type", Kind.INT)
_CONFIG_INPUT: Final = Schema({1: Field("name", Kind.STRING), 2: _DATA_TYPE, 4: _shape("dims")})
_CONFIG_OUTPUT: Final = Schema({1: Field("name", Kind.STRING), 2: _DATA_TYPE, 3: _shape("dims")})
_VERSION_POLICY: Final = Schema(
    {1: _one("latest", Schema({1: Field("num_versions", Kind.UINT)}))}, is_choice=True
)
_INSTANCES: Final = Schema(
    {1: Field("name", Kind.STRING), 2: Field("count", Kind.INT), 4: Field("kind", Kind.INT)}
)
_DYNAMIC_BATCHING: Final = Schema(
    {1: _shape("preferred_batch_size"), 2: Field("max_queue_delay_microseconds", Kind.UINT)}
)
MODEL_CONFIG: Final = Schema(
    {
        1: _one(
            "config",
            Schema(
                {
                    **_text("name", "platform"),
                    3: _one("version_policy", _VERSION_POLICY),
                    4: Field("max_batch_size", Kind.INT),
                    5: _messages("input", _CONFIG_INPUT),
                    6: _messages("output", _CONFIG_OUTPUT),
                    7: _messages("instance_group", _INSTANCES),
                    11: _one("dynamic_batching", _DYNAMIC_BATCHING),
                    13: _one("sequence_batching", NOTHING),
                    17: Field("backend", Kind.STRING),
                    19: _one(
                        "model_transaction_policy", Schema({1: Field("decoupled", Kind.BOOL)})
                    ),
                    24: _one("response_cache", Schema({1: Field("enable", Kind.BOOL)})),
                }
            ),
        )
    }
)
DATA_TYPES: Final = {
    f"TYPE_{name}": number
    for number, name in enumerate(
        (
            "INVALID",
            "BOOL",
            "UINT8",
            "UINT16",
            "UINT32",
            "UINT64",
            "INT8",
            "INT16",
            "INT32",
            "INT64",
            "FP16",
            "FP32",
            "FP64",
            "STRING",
            "BF16",
        )
    )
}
INSTANCE_KINDS: Final = {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3}

REGION_NAME: Final = Schema(_text("name"))
"""What SystemSharedMemoryStatus and SystemSharedMemoryUnregister are asked with."""
REGION: Final = Schema(
    {**_text("name", "key"), 3: Field("offset", Kind.UINT), 4: Field("byte_size", Kind.UINT)}
)
"""What SystemSharedMemoryRegister is asked with, and each region as it is told."""
REGIONS: Final = Schema({1: _map("regions", _one("value", REGION))})

HEALTH_REQUEST: Final = Schema({1: Field("service", Kind.STRING)})
HEALTH: Final = Schema({1: Field("status", Kind.INT)})
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
