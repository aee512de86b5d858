"""Answers as payloads: in which codec a binding's results leave, and what their content type is.

Decides at check time whether an answer has a form in the codec. What a row shows is
``processing/outputs.py``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from edged.errors import FieldError
from edged.manifest import Manifest
from edged.messages import InferResponse
from edged.processing.cbor_data import CBOR, encode_cbor
from edged.processing.msgpack_data import MSGPACK, encode_msgpack
from edged.processing.outputs import Documents, Output, build_output, documents_of
from edged.protocol.mqtt import JSON, META, answer_document, document_of, encode_document
from edged.specs import OutputSpec
from edged.tensors import DTYPES, Array
from edged.transports.bindings.tensor_payload import TENSOR, encode_raw, encode_tensors

RAW = "application/octet-stream"
_ENCODER = msgspec.json.Encoder()
_DOCUMENTS: dict[str, tuple[str, Callable[[Any], bytes]]] = {
    "json": (JSON, encode_document),
    "cbor": (CBOR, encode_cbor),
    "msgpack": (MSGPACK, encode_msgpack),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A result on its way out.

    Args:
        rows: what of it people read; empty where nobody asked for that.
    """

    payload: bytes
    content_type: str
    rows: list[dict[str, Any]]


class AnswerWriter:
    """Writes the answers of one model in one codec.

    Args:
        spec: what the operator wants shown.
        manifest: of the model that answers.
        wants_rows: whether rows are made even where the codec has none.

    Raises:
        FieldError: with a path below ``output``.
    """

    def __init__(self, spec: OutputSpec, manifest: Manifest, *, wants_rows: bool) -> None:
        self._codec = spec.codec
        is_document = spec.codec in _DOCUMENTS
        self._rows: Output | None = None
        self._documents: Documents | None = None
        if is_document or wants_rows:
            self._rows = build_output(spec, manifest)
            self._documents = documents_of(self._rows)
        if not is_document:
            _check_tensors(spec, manifest, wants_rows=wants_rows)
        self._shown: tuple[str, ...] = () if spec.tensor is None else (spec.tensor,)
        if spec.codec == "raw" and not self._shown:
            self._shown = (manifest.output_specs()[0].name,)

    @property
    def writes_rows(self) -> bool:
        """Whether ``write_rows`` may be asked."""
        return self._codec in _DOCUMENTS

    @property
    def content_type(self) -> str:
        """Of documents."""
        return _DOCUMENTS[self._codec][0]

    def write_rows(
        self, model: str, by: tuple[int, int], outputs: Mapping[str, Array]
    ) -> list[bytes]:
        """The payload of each row as that of an answer of its own.

        Args:
            model: that answered.
            by: its release, and the generation of the configuration.
            outputs: of all rows.
        """
        meta = {"model": model, "release": by[0], "generation": by[1]}
        encode = _DOCUMENTS[self._codec][1]
        if self._codec == "json" and self._documents is not None:
            short = self._documents(encode_document(meta)[:-1] + b",", outputs)
            if short is not None:
                return short
        rows = self._rows(outputs) if self._rows is not None else []
        if self._codec == "json":
            return _documents(meta, rows)
        return [encode(document_of(meta, [row])) for row in rows]

    def write(self, response: InferResponse) -> Answer:
        """An answer's payload; ``response`` has no error."""
        rows = self._rows(response.outputs) if self._rows is not None else []
        if self._codec in _DOCUMENTS:
            content_type, encode = _DOCUMENTS[self._codec]
            return Answer(encode(answer_document(response, rows)), content_type, rows)
        if self._codec == "tensor":
            return Answer(encode_tensors(response, self._shown), TENSOR, rows)
        return Answer(encode_raw(response.outputs, self._shown[0]), RAW, rows)


def _documents(meta: dict[str, Any], rows: list[dict[str, Any]]) -> list[bytes]:
    """Each row's document as JSON; what all begin with is written once."""
    begin, encode = encode_document(meta)[:-1] + b",", _ENCODER.encode
    return [
        begin + encode(row)[1:]
        if row and META.isdisjoint(row)
        else encode_document(document_of(meta, [row]))
        for row in rows
    ]


def _check_tensors(spec: OutputSpec, manifest: Manifest, *, wants_rows: bool) -> None:
    """Tensors leave as the model gave them, so that nothing may be asked that changes them."""
    outputs = {entry.name: entry for entry in manifest.output_specs()}
    shaped = spec.top_k or spec.threshold is not None or spec.activation not in {"bundle", "none"}
    if shaped and not wants_rows:
        raise FieldError(
            "output.codec",
            f'"{spec.codec}" carries tensors as the model gave them; remove top_k, threshold and '
            "activation, or write json, cbor or msgpack",
        )
    if spec.tensor is not None and spec.tensor not in outputs:
        known = ", ".join(f'"{name}"' for name in outputs)
        text = f'model "{manifest.name}" has no output "{spec.tensor}"; it has {known}'
        raise FieldError("output.tensor", text)
    if spec.codec == "raw":
        if spec.tensor is None and len(outputs) > 1:
            known = ", ".join(f'"{name}"' for name in outputs)
            text = f'"raw" carries one output, model "{manifest.name}" has {known}; name one'
            raise FieldError("output.tensor", text)
        chosen = outputs[spec.tensor] if spec.tensor else next(iter(outputs.values()))
        if chosen.dtype not in DTYPES:
            text = f'output "{chosen.name}" is {chosen}, which has no raw form; write tensor'
            raise FieldError("output.codec", text)
