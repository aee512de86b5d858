"""What an operator says of a binding's payloads beyond their codec. Words only."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from edged.config.section import Path, Section
from edged.specs import Duration

Compression = Literal["none", "gzip", "zstd", "auto"]
Acceptable = Literal["json", "cbor", "msgpack", "tensor", "image", "raw"]


class MaxAgeConfig(Section, frozen=True, kw_only=True):
    """A field that says when a request was made; older ones end as expired."""

    field: Annotated[
        str, Meta(min_length=1, max_length=256, description="path of the time in a row")
    ]
    within: Annotated[Duration, Meta(description="greatest age, by this machine's clock")]
    unit: Annotated[
        Literal["s", "ms", "us", "ns", "iso"],
        Meta(description="since 1970, or iso = text like 2026-01-31T12:00:00Z"),
    ] = "s"


class ProtobufConfig(Section, frozen=True, kw_only=True):
    """Which message a protobuf payload is."""

    descriptors: Annotated[
        Path,
        Meta(description="file made by protoc --include_imports --descriptor_set_out"),
    ]
    message: Annotated[
        str, Meta(min_length=1, max_length=256, description="full name, package.Name")
    ]
