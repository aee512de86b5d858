"""One question from a terminal: words to tensors, an answer to JSON. ``edged infer``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from edged.client import Client, InferResult
from edged.errors import DecodeError, InvalidRequestError
from edged.manifest import Manifest, parse_manifest
from edged.processing.codecs import build_codec
from edged.processing.outputs import build_output
from edged.specs import OutputSpec
from edged.tensors import DTYPES, Array, TensorSpec

_PICTURES = (".png", ".jpg", ".jpeg")


def ask(
    socket: str | None, model: str, words: list[str], timeout: float, raw: bool
) -> dict[str, Any]:
    """Ask a model.

    Args:
        socket: path of the Unix socket, or None for the default.
        model: NAME, NAME@RELEASE or NAME@ALIAS.
        words: INPUT=VALUE, as on the command line.
        timeout: seconds.
        raw: give the tensors, not what the bundle says they mean.

    Raises:
        InvalidRequestError: a word does not fit the model.
        EdgedError: what the daemon says.
    """
    name, _, selector = model.partition("@")
    release: int | str | None = int(selector) if selector.isdigit() else selector or None
    with Client(socket, timeout=timeout) as client:
        document = client.call("manifest", model=name, release=release)
        manifest = parse_manifest(document.encode())
        inputs = read_inputs(manifest, words)
        result = client.infer(name, inputs, release=release)
    return _answer(manifest, result, raw)


def read_inputs(manifest: Manifest, words: list[str]) -> dict[str, Array]:
    """Make tensors of the words of a command line."""
    specs = {spec.name: spec for spec in manifest.input_specs()}
    inputs: dict[str, Array] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or name not in specs:
            if len(specs) != 1:
                raise InvalidRequestError(
                    f'"{word[:40]}": expected INPUT=VALUE with INPUT one of {", ".join(specs)}'
                )
            name, value = next(iter(specs)), word
        inputs[name] = _read_value(manifest, specs[name], value)
    return inputs


def _read_value(manifest: Manifest, spec: TensorSpec, value: str) -> Array:
    if not value.startswith("@"):
        return _from_json(manifest, spec, value.encode())
    path = Path(value[1:])
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise InvalidRequestError(f"{path}: {exc.strerror}") from exc
    suffix = path.suffix.lower()
    if suffix == ".npy":
        try:
            array: Array = np.load(path)
        except ValueError as exc:
            raise DecodeError(f"{path}: {exc}") from exc
        return array
    if suffix in _PICTURES:
        codec = build_codec("image", manifest, input_name=spec.name, fields=())
        return codec.decode(data)[spec.name]
    return _from_json(manifest, spec, data)


def _from_json(manifest: Manifest, spec: TensorSpec, data: bytes) -> Array:
    text = data.lstrip()
    if text.startswith(b"{") or (text.startswith(b"[") and text[1:].lstrip().startswith(b"{")):
        codec = build_codec("json", manifest, input_name=spec.name, fields=())
        return codec.decode(data)[spec.name]
    try:
        return np.asarray(json.loads(data), dtype=DTYPES[spec.dtype].numpy)
    except (ValueError, TypeError, OverflowError, RecursionError) as exc:
        raise DecodeError(f'"{spec.name}": not a {spec} in JSON: {exc}') from exc


def _answer(manifest: Manifest, result: InferResult, raw: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "model": result.model,
        "release": result.release,
        "generation": result.generation,
        "run_us": round(result.run_ns / 1000, 1),
    }
    if raw or not manifest.is_row_wise:
        answer["outputs"] = {name: array.tolist() for name, array in result.items()}
    else:
        answer["rows"] = build_output(OutputSpec(), manifest)(result)
    return answer
