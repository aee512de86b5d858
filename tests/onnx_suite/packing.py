"""Cases as bundles, made in bulk: a signature that the model's file and the case's data both fit.

Their golden samples are the case's first inputs and what ONNX Runtime alone answers to them, so that
loads are proven as those of a converter's bundles are. They are not signed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edged.manifest import (
    ArtefactEntry,
    Golden,
    Manifest,
    TensorEntry,
    Tolerance,
    canonical_json,
)
from edged.store.golden import write_safetensors
from edged.strings import strings
from edged.tensors import BFLOAT16
from tests.bundles import GOLDEN, MODEL, describe, write_bundle
from tests.onnx_suite import raw as raw_session
from tests.onnx_suite.cases import Array, Case
from tests.onnx_suite.raw import Raw

NAME_LENGTH = 64
_TYPES = {MODEL: "onnx", GOLDEN: "safetensors"}


class Packed(NamedTuple):
    """A case that lies in a bundle.

    Args:
        case: which one.
        model: its name there.
        manifest: of the bundle.
        data: what it is asked, and the answers of ONNX Runtime alone (``Raw.answers``), as
            ``carried``.
        files: the members of its bundle.
    """

    case: Case
    model: str
    manifest: Manifest
    data: list[tuple[list[Array], list[list[Array]]]]
    files: dict[str, bytes]


def pack(case: Case) -> Packed:
    """Say what a case's bundle holds.

    Raises:
        ManifestError: no manifest can say what it takes.
    """
    model = case.model()
    data, packed = case.data(model), model.SerializeToString()
    raw, name = Raw(packed), model_name(case.name)
    entries = [
        tuple(
            TensorEntry(tensor, kind, _shape(f"{side}{index}", [one[index] for one in sets]))
            for index, (tensor, kind, _) in enumerate(declared)
        )
        for side, declared, sets in (
            ("in", raw.inputs, [inputs for inputs, _ in data]),
            ("out", raw.outputs, [outputs for _, outputs in data]),
        )
    ]
    answers = [raw.answers(inputs) for inputs, _ in data]
    samples = _samples(raw, data[0][0], answers[0][0])
    files = {MODEL: packed, GOLDEN: samples}
    if not all(map(_is_finite, answers[0][0])):
        del files[GOLDEN]  # a daemon takes no release whose samples give no numbers
    tolerance = Tolerance(0.0, 0.0) if len(answers[0]) == 1 else Tolerance()
    manifest = Manifest(
        format="edged-bundle-v1",
        name=name,
        release=1,
        version="1",
        inputs=entries[0],
        outputs=entries[1],
        artefacts=(ArtefactEntry("onnx", MODEL),),
        members=tuple(describe(file, _TYPES[file], data) for file, data in files.items()),
        golden=Golden(GOLDEN, 1, {entry.name: tolerance for entry in entries[1]})
        if GOLDEN in files
        else None,
    )
    asked = [
        ([*map(carried, inputs)], [[*map(carried, answer)] for answer in found])
        for (inputs, _), found in zip(data, answers, strict=True)
    ]
    return Packed(case, name, manifest, asked, files)


def write(packed: Packed, folder: Path) -> Path:
    """Write its bundle into a folder."""
    path = folder / f"{packed.model}.edgb"
    return write_bundle(path, canonical_json(packed.manifest), packed.files)


def _samples(raw: Raw, inputs: list[Array], outputs: list[Array]) -> bytes:
    names = [f"in.{name}" for name, _, _ in raw.inputs] + [
        f"out.{name}" for name, _, _ in raw.outputs
    ]
    arrays = map(carried, [*inputs, *outputs])
    return write_safetensors(dict(zip(names, arrays, strict=True)))


def carried(array: Array) -> Array:
    """The same as our own protocols carry it: bfloat16 as we call it, strings as bytes."""
    if array.dtype == raw_session.BFLOAT16:
        return np.ascontiguousarray(array).view(BFLOAT16)
    if array.dtype.kind in "OUS":
        flat = [one if isinstance(one, bytes) else str(one).encode() for one in array.flat]
        return strings(flat, array.shape)
    return array


def _is_finite(array: Array) -> bool:
    return array.dtype.kind not in "fV" or bool(np.isfinite(array.astype(np.float64)).all())


def model_name(case: str) -> str:
    """A name that a model may have, a different one for each case."""
    name = case.removeprefix("test_")
    if len(name) <= NAME_LENGTH:
        return name
    return f"{name[: NAME_LENGTH - 9]}-{hashlib.sha256(case.encode()).hexdigest()[:8]}"


def _shape(word: str, arrays: list[Array]) -> tuple[int | str, ...]:
    """The lengths that all the arrays have; where they differ, a free axis."""
    lengths = list(zip(*(one.shape for one in arrays), strict=True))
    return tuple(
        found[0] if len(set(found)) == 1 else f"{word}_axis{index}"
        for index, found in enumerate(lengths)
    )
