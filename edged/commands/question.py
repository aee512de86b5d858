"""One question from a terminal: words to tensors, an answer to JSON. ``edged infer``."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edged.client import Client, InferResult
from edged.errors import DecodeError, FieldError, InvalidRequestError, RequestError
from edged.manifest import Manifest, parse_manifest
from edged.messages import SequencedRequest, SequenceStep
from edged.processing.codecs import Codec, build_codec
from edged.processing.json_text import parse_json
from edged.processing.nested import NestedCodec
from edged.processing.outputs import build_output, plain_values
from edged.processing.texts import pack_json
from edged.protocol.steps import check_sequence
from edged.specs import OutputSpec, TextInput
from edged.tensors import Array, TensorSpec

_PICTURES = (".png", ".jpg", ".jpeg")
_RELEASE_DIGITS = 16
_NPY_ERRORS = (ValueError, TypeError, EOFError, SyntaxError, OverflowError, MemoryError)
"""What NumPy raises for files that are none of its own, or that claim more than there is."""


def ask(
    socket: str | None,
    model: str,
    words: list[str],
    timeout: float,
    raw: bool,
    *,
    step: SequenceStep | None = None,
) -> dict[str, Any]:
    """Ask a model.

    Args:
        socket: path of the Unix socket, or None for the default.
        model: NAME, NAME@RELEASE or NAME@ALIAS.
        words: INPUT=VALUE, as on the command line.
        timeout: seconds.
        raw: give the tensors, not what the bundle says they mean.
        step: of a sequence, for a model that keeps state.

    Raises:
        InvalidRequestError: a word does not fit the model.
        EdgedError: what the daemon says.
    """
    _check_timeout(timeout)
    name, release = split_model(model)
    with Client(socket, timeout=timeout) as client:
        document = client.call("manifest", model=name, release=release)
        manifest = parse_manifest(document.encode())
        inputs = read_inputs(manifest, words)
        if step is not None:
            # Its release is the daemon's to say: another one may still have the state.
            request = SequencedRequest(name, inputs, release, sequence=step)
            result = client.submit_step(request, None).result()
        else:
            # Of another release the same numbers may mean other words.
            result = client.infer(name, inputs, release=manifest.release)
    if not result:
        return {"model": result.model, "release": result.release, "generation": result.generation}
    return make_answer(manifest, result, raw)


def ask_for_each(
    socket: str | None, model: str, words: list[str], timeout: float, raw: bool
) -> Iterator[dict[str, Any]]:
    """Ask a model for several answers; as ``ask``, with the place of each among them.

    Raises:
        EdgedError: as ``ask``, also after some answers.
    """
    _check_timeout(timeout)
    name, release = split_model(model)
    with Client(socket, timeout=timeout) as client:
        document = client.call("manifest", model=name, release=release)
        manifest = parse_manifest(document.encode())
        inputs = read_inputs(manifest, words)
        for result in client.stream(name, inputs, release=manifest.release):
            answer = make_answer(_only(manifest, result), result, raw)
            yield {"index": result.index, "last": result.is_last, **answer}


def _only(manifest: Manifest, result: InferResult) -> Manifest:
    """What the bundle says of the outputs that an answer has."""
    return msgspec.structs.replace(
        manifest,
        outputs=tuple(entry for entry in manifest.outputs if entry.name in result),
        output_processing={n: w for n, w in manifest.output_processing.items() if n in result},
    )


def _check_timeout(timeout: float) -> None:
    if not 0 < timeout < math.inf:
        raise InvalidRequestError(f"timeout {timeout}: expected a number of seconds above 0")


def step_of(sequence: str | None, *, start: bool, end: bool) -> SequenceStep | None:
    """Which sequence a command line means.

    Raises:
        InvalidRequestError: it says how, and not which.
    """
    if sequence is None:
        if start or end:
            raise InvalidRequestError("--start and --end are of a sequence: add --sequence ID")
        return None
    check_sequence(sequence)
    return SequenceStep(sequence, start, end)


def split_model(word: str) -> tuple[str, int | str | None]:
    """NAME, NAME@RELEASE or NAME@ALIAS as model and selector."""
    name, _, selector = word.partition("@")
    if selector.isascii() and selector.isdigit() and len(selector) <= _RELEASE_DIGITS:
        return name, int(selector)
    return name, selector or None


def read_inputs(manifest: Manifest, words: list[str]) -> dict[str, Array]:
    """Make tensors of the words of a command line, as strictly as a binding would.

    Raises:
        RequestError: a word does not fit the model.
    """
    specs = {spec.name: spec for spec in manifest.input_specs()}
    inputs: dict[str, Array] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if sign and name in specs:
            found = {name: _read_value(manifest, specs[name], value)}
        elif len(specs) == 1:
            name = next(iter(specs))
            found = {name: _read_value(manifest, specs[name], word)}
        elif word.lstrip().startswith("{"):
            found = _codec("json", manifest, None).decode(word.encode())
        else:
            raise InvalidRequestError(
                f'"{word[:40]}": expected INPUT=VALUE with INPUT one of {", ".join(specs)}'
            )
        if twice := found.keys() & inputs.keys():
            raise InvalidRequestError(f'input "{min(twice)}" is given twice')
        inputs |= found
    return inputs


def _read_value(manifest: Manifest, spec: TensorSpec, value: str) -> Array:
    if not value.startswith("@"):
        if _is_text(manifest, spec):
            return pack_json(spec, value)
        return _from_json(manifest, spec, value.encode("utf-8", "surrogateescape"))
    path = Path(value[1:])
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise InvalidRequestError(f"{path}: {exc.strerror}") from exc
    try:
        return _from_file(manifest, spec, path.suffix.lower(), data)
    except RequestError as exc:
        raise DecodeError(f"{path}: {exc.message}") from exc


def _from_file(manifest: Manifest, spec: TensorSpec, suffix: str, data: bytes) -> Array:
    if suffix == ".npy":
        try:
            array: Array = np.lib.format.read_array(io.BytesIO(data))
        except _NPY_ERRORS as exc:
            raise DecodeError(f"not an array of numbers in NumPy's format: {exc}") from exc
        return array
    if suffix != ".json" and (_is_text(manifest, spec) or _is_bytes(manifest, spec)):
        return _codec("raw", manifest, spec.name).decode(data)[spec.name]
    if suffix == ".npz":
        raise DecodeError("holds several arrays; save each as .npy and name it: INPUT=@FILE.npy")
    if suffix in _PICTURES:
        return _codec("image", manifest, spec.name).decode(data)[spec.name]
    return _from_json(manifest, spec, data)


def _from_json(manifest: Manifest, spec: TensorSpec, data: bytes) -> Array:
    text = data.lstrip()
    if text.startswith(b"{") or (text.startswith(b"[") and text[1:].lstrip().startswith(b"{")):
        return _codec("json", manifest, spec.name).decode(data)[spec.name]
    parse_json(data)
    # The list alone may mean named columns; here it is the tensor's own nesting.
    document = b'{"inputs":{%b:%b}}' % (json.dumps(spec.name).encode(), data)
    texts = [spec.name] if _is_text(manifest, spec) else []
    return NestedCodec([spec], texts).decode(document)[spec.name]


def _is_text(manifest: Manifest, spec: TensorSpec) -> bool:
    return isinstance(manifest.input_processing.get(spec.name), TextInput)


def _is_bytes(manifest: Manifest, spec: TensorSpec) -> bool:
    """Whether an input is some bytes of which nothing more is said: any file."""
    is_free = len(spec.shape) == 1 and isinstance(spec.shape[0], str) and not spec.is_batched
    return spec.dtype == "uint8" and is_free and spec.name not in manifest.input_processing


def _codec(kind: str, manifest: Manifest, name: str | None) -> Codec:
    try:
        return build_codec(kind, manifest, input_name=name, fields=())
    except FieldError as exc:
        raise InvalidRequestError(exc.reason) from exc


def make_answer(manifest: Manifest, result: InferResult, raw: bool) -> dict[str, Any]:
    """What is printed: who answered, and rows or, with ``raw``, tensors."""
    answer: dict[str, Any] = {
        "model": result.model,
        "release": result.release,
        "generation": result.generation,
        "run_us": round(result.run_ns / 1000, 1),
    }
    if not raw and not manifest.is_row_wise and _has_texts(manifest):
        answer["rows"] = build_output(OutputSpec(), manifest)(result)
    elif raw or not manifest.is_row_wise:
        answer["outputs"] = {name: plain_values(array) for name, array in result.items()}
    else:
        answer["rows"] = build_output(OutputSpec(), manifest)(result)
    return answer


def _has_texts(manifest: Manifest) -> bool:
    return any(work.text is True for work in manifest.output_processing.values())
