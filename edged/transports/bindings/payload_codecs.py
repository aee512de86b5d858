"""The codec of a binding's payloads: built once for a release, chosen for a message.

Decides which codecs a Content Type may choose from: those that the operator wrote down, and no
others. Without ``codec: auto`` what a message calls itself chooses nothing.
"""

from __future__ import annotations

from pathlib import Path

from edged.config.binding import BindingConfig
from edged.errors import DecodeError, FieldError
from edged.manifest import Manifest
from edged.processing.cbor_data import CBOR
from edged.processing.codecs import PARSERS, Codec, build_codec
from edged.processing.columns import Parse
from edged.processing.freshness import fresh
from edged.processing.msgpack_data import MSGPACK
from edged.processing.unpacking import UnpackingCodec
from edged.protocol.mqtt import JSON
from edged.protocol.sparkplug import parse_sparkplug
from edged.specs import FieldSpec
from edged.transports.bindings.tensor_payload import TENSOR, TensorCodec

DOCUMENT_BYTES = 4 << 20
"""The most that any reader of documents takes: more need not be unpacked."""
_BY_TYPE = {
    JSON: "json",
    CBOR: "cbor",
    MSGPACK: "msgpack",
    "application/x-msgpack": "msgpack",
    "application/vnd.msgpack": "msgpack",
    TENSOR: "tensor",
    "image/jpeg": "image",
    "image/png": "image",
    "application/octet-stream": "raw",
}
_FIRST_ACCEPTED = ("json", "cbor", "msgpack")
_SHOWN = 64


def load_parser(config: BindingConfig) -> Parse | None:
    """The parser of a binding's own kind of message, with its descriptors read.

    Raises:
        FieldError: ``schema…``.
    """
    if config.schema is None:
        return None
    from edged.processing.protobuf_data import (  # noqa: PLC0415 - only if used
        MAX_DESCRIPTOR_BYTES,
        protobuf_parser,
    )

    path = Path(config.schema.descriptors)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_DESCRIPTOR_BYTES + 1)
    except OSError as exc:
        raise FieldError("schema.descriptors", f"cannot read {path}: {exc.strerror}") from exc
    return protobuf_parser(data, config.schema.message)


class PayloadCodecs:
    """See above.

    Args:
        config: the binding.
        manifest: of the model that will answer.
        parser: from ``load_parser``.
        cap: bytes of an unpacked payload (``limits.max_request``).
        fields: other columns than the binding's own.

    Raises:
        FieldError: one of them cannot fill the model's inputs.
    """

    def __init__(
        self,
        config: BindingConfig,
        manifest: Manifest,
        parser: Parse | None,
        cap: int,
        fields: tuple[str | FieldSpec, ...] | None = None,
    ) -> None:
        self._fields = config.fields if fields is None else fields
        self._config, self._manifest = config, manifest
        self._parser, self._cap = parser, cap
        kinds = (config.accept or _FIRST_ACCEPTED) if config.codec == "auto" else (config.codec,)
        self._codecs = {kind: self._build(kind) for kind in kinds}
        self._first = self._codecs[kinds[0]]
        self._is_auto = config.codec == "auto"

    @property
    def first(self) -> Codec:
        """That of messages that do not say what they are."""
        return self._first

    def choose(self, content_type: str | None) -> Codec:
        """The codec of a message.

        Raises:
            DecodeError: the operator accepts no such content.
        """
        if not self._is_auto or content_type is None:
            return self._first
        name = content_type.partition(";")[0].strip().lower()
        found = self._codecs.get(_BY_TYPE.get(name, ""))
        if found is None:
            accepted = ", ".join(self._codecs)
            text = f"content type {content_type[:_SHOWN]!a} is not taken here"
            raise DecodeError(f"{text}; the binding accepts {accepted}")
        return found

    def _build(self, kind: str) -> Codec:
        config, codec = self._config, self._plain(kind)
        if config.compression == "none":
            return codec
        is_document = kind in PARSERS or kind in {"protobuf", "sparkplug"}
        cap = min(self._cap, DOCUMENT_BYTES) if is_document else self._cap
        return UnpackingCodec(codec, config.compression, cap)

    def _plain(self, kind: str) -> Codec:
        config = self._config
        if kind == "tensor":
            return TensorCodec()
        own = {"protobuf": self._parser, "sparkplug": parse_sparkplug}
        parse = own[kind] if kind in own else PARSERS.get(kind)
        if parse is not None and config.max_age is not None:
            age = config.max_age
            parse = fresh(parse, age.field, age.unit, age.within.seconds)
        return build_codec(
            kind, self._manifest, input_name=config.input, fields=self._fields, parse=parse
        )
