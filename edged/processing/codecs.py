"""Which codec turns a binding's payloads into a model's inputs.

Decides at check time whether a codec can fill the model's inputs; decoding itself is the codecs'.
Never opens a file and never asks a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from edged.errors import DecodeError, FieldError
from edged.manifest import Manifest
from edged.processing.cbor_data import parse_cbor
from edged.processing.columns import ColumnsCodec, Parse
from edged.processing.json_text import parse_json
from edged.processing.msgpack_data import parse_msgpack
from edged.processing.nested import NestedCodec
from edged.processing.texts import TextCodec
from edged.processing.values import check_rows
from edged.specs import FeaturesInput, FieldSpec, ImageInput, TextInput
from edged.tensors import DTYPES, Array, TensorSpec

PARSERS: dict[str, Parse] = {"json": parse_json, "cbor": parse_cbor, "msgpack": parse_msgpack}
"""The codecs of documents, whose rows all follow the same rules."""
ROW_CODECS = ", ".join(PARSERS)


class Codec(Protocol):
    """Payload to tensors."""

    @property
    def is_slow(self) -> bool:
        """Whether decoding takes so long that it must not run on the event loop."""
        ...

    def decode(self, payload: bytes) -> dict[str, Array]:
        """Tensors by input name, batch axis first; raises InvalidRequestError, nothing else."""
        ...


def build_codec(
    codec: str,
    manifest: Manifest,
    *,
    input_name: str | None,
    fields: tuple[str | FieldSpec, ...],
    parse: Parse | None = None,
) -> Codec:
    """Make the codec of a binding.

    Args:
        codec: ``json``, ``cbor``, ``msgpack``, ``image`` or ``raw``.
        manifest: of the model that will answer.
        input_name: the input to fill, or None for the only one.
        fields: paths of the columns; empty = the bundle's own column names.
        parse: reads the document instead of the codec's own parser.

    Raises:
        FieldError: ``codec``, ``input`` or ``fields`` cannot fit the model.
    """
    specs = manifest.input_specs()
    for spec in specs:
        if spec.dtype not in DTYPES:
            raise FieldError(
                "codec",
                f'model "{manifest.name}" takes "{spec.name}" {spec}, which no payload becomes; '
                "ask it over a socket",
            )
    parse = parse or PARSERS.get(codec)
    if fields and parse is None:
        raise FieldError("fields", f'belong to {ROW_CODECS}, not to "{codec}"')
    if parse is not None:
        return _row_codec(manifest, specs, input_name, fields, kind=codec, parse=parse)
    spec = _only_input(manifest, specs, input_name, codec)
    if codec == "raw":
        return RawCodec(spec)
    if codec == "image":
        from edged.processing import image  # noqa: PLC0415 - brings Pillow

        work = manifest.input_processing.get(spec.name)
        if not isinstance(work, ImageInput):
            if image.takes_pixels(spec):
                return image.PictureCodec(spec)
            raise FieldError(
                "codec",
                f'the bundle of model "{manifest.name}" does not say how a picture becomes input '
                f'"{spec.name}" (input_processing of kind image); convert it again with that',
            )
        return image.ImageCodec(spec, work)
    raise FieldError("codec", f'"{codec}" is unknown; expected {ROW_CODECS}, image or raw')


def _row_codec(
    manifest: Manifest,
    specs: tuple[TensorSpec, ...],
    input_name: str | None,
    fields: tuple[str | FieldSpec, ...],
    *,
    kind: str,
    parse: Parse,
) -> Codec:
    words = {
        name: {work.names.index(column): one for column, one in work.words.items()}
        for name, work in manifest.input_processing.items()
        if isinstance(work, FeaturesInput)
    }
    works = manifest.input_processing.items()
    texts = {name for name, work in works if isinstance(work, TextInput)}
    if fields:
        spec = _only_input(manifest, specs, input_name, kind)
        if spec.name in texts:
            return TextCodec(spec, fields, parse)
        return ColumnsCodec([(spec, fields)], words, parse)
    if input_name is not None:
        _only_input(manifest, specs, input_name, kind)
    named = [
        (spec, work.names)
        for spec in specs
        if isinstance(work := manifest.input_processing.get(spec.name), FeaturesInput)
    ]
    if len(named) == len(specs):
        return ColumnsCodec(named, words, parse)
    return NestedCodec(specs, texts, parse)


def _only_input(
    manifest: Manifest, specs: Sequence[TensorSpec], name: str | None, codec: str
) -> TensorSpec:
    known = ", ".join(f'"{spec.name}"' for spec in specs)
    if name is not None and all(spec.name != name for spec in specs):
        raise FieldError("input", f'model "{manifest.name}" has no input "{name}"; it has {known}')
    if len(specs) > 1:
        raise FieldError(
            "input" if name is not None else "codec",
            f'model "{manifest.name}" takes {known}; a "{codec}" payload like this fills one input '
            'only, so send JSON, CBOR or MessagePack {"inputs": {…}} without fields',
        )
    return specs[0]


class RawCodec:
    """Decodes the little-endian bytes of one row, or of several whole rows, without copying.

    Where one axis beside the rows is free, a payload is one row and its length says the axis': a
    text, or a file.

    Args:
        spec: the input.

    Raises:
        FieldError: several axes are free.
    """

    is_slow = False

    def __init__(self, spec: TensorSpec) -> None:
        fixed = spec.shape[1:] if spec.is_batched else spec.shape
        sizes = [axis for axis in fixed if isinstance(axis, int)]
        if len(sizes) < len(fixed) - 1:
            raise FieldError(
                "codec",
                f'"raw" says the length of one axis at most; input "{spec.name}" is {spec}; '
                "use json",
            )
        self._spec = spec
        self._dtype = DTYPES[spec.dtype]
        self._is_free = len(sizes) < len(fixed)
        self._shape = tuple(axis if isinstance(axis, int) else -1 for axis in fixed)
        self._row_bytes = math.prod(sizes) * self._dtype.size_bytes

    @property
    def is_view(self) -> bool:
        """Whether decoding costs the same for any number of bytes: it looks at none."""
        return self._dtype.name != "bool"

    @property
    def row_bytes(self) -> int:
        """The least that a payload has, unless an axis is free."""
        return 0 if self._is_free else self._row_bytes

    def decode(self, payload: bytes) -> dict[str, Array]:
        """View a payload as the input.

        Raises:
            DecodeError: not a whole number of rows, or a boolean that is neither 0 nor 1.
            TooLargeError: more rows than one message may hold.
        """
        rows, rest = divmod(len(payload), self._row_bytes)
        is_one = not self._spec.is_batched and not self._is_free
        if rest or not rows or (rows > 1 and is_one):
            raise DecodeError(
                f"{len(payload)} bytes; {self._spec} takes "
                f"{'' if is_one else 'a multiple of '}{self._row_bytes}"
            )
        if self._is_free:
            rows = 1
        check_rows(rows)
        shape = (rows, *self._shape) if self._spec.is_batched else self._shape
        if self._dtype.name == "bool" and payload.translate(None, b"\0\1"):
            raise DecodeError("a boolean that is neither 0 nor 1")
        array = np.frombuffer(payload, dtype=self._dtype.numpy).reshape(shape)
        return {self._spec.name: array}
