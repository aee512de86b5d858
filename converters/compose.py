"""The manifest of a bundle and its members, from what was proven. Writes no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np
import onnx

from converters.describe import describe_processing
from converters.elements import settle_tolerance
from converters.gate.prove import Proven
from converters.golden import choose_rows, gather
from converters.pack import member
from converters.parity import round_up
from converters.recipe import Recipe
from converters.sandbox import Converted
from converters.session import VERSION as ORT_VERSION
from converters.statistics import gather_statistics
from converters.targets.table import find_target
from edged.manifest import ArtefactEntry, Golden, Manifest, Tolerance
from edged.store.golden import write_safetensors
from edged.tensors import Array
from edged.version import __version__

MODEL = "model.onnx"
GOLDEN = "golden.safetensors"
ALSO = "model-{}.onnx"
ALSO_GOLDEN = "golden-{}.safetensors"
"""Of the same model in another precision, and its answers to the inputs of ``GOLDEN``."""
VERIFIED, CHECKED = "verified", "checked"
"""Proven on the user's own data; or on rows made from the signature, which proves less."""


@dataclass(frozen=True)
class Packed:
    """The model that goes into the bundle, and the rows that every device holds it against.

    Args:
        data: the ONNX file's bytes.
        opset: of its main operators.
        ir: its IR version.
        golden: the rows that travel, with the right answers: ``in.NAME`` and ``out.NAME``.
        edges: names of the edge cases among them, the last rows.
        tolerances: by output, how far a device may be from them.
        precision: as the manifest says it.
        parity: what the manifest's ``parity`` says beside the numbers of the float32 model.
        provenance: likewise.
        rows: the samples among ``golden``, by their numbers.
        runtime: whose it is: ONNX Runtime's, or TensorRT's to build an engine from.
        also: the same model in another precision, whose rows are the first of these; and so on.
    """

    data: bytes
    opset: int
    ir: int
    golden: dict[str, Array]
    edges: tuple[str, ...]
    tolerances: dict[str, Tolerance]
    precision: Literal["float32", "float16", "int8"] = "float32"
    parity: dict[str, object] = field(default_factory=dict)
    provenance: dict[str, object] = field(default_factory=dict)
    rows: tuple[int, ...] = ()
    runtime: Literal["onnx", "tensorrt"] = "onnx"
    also: Packed | None = None


def pack_as_proven(recipe: Recipe, proven: Proven) -> Packed:
    """The proven model itself, with the framework's answers.

    Raises:
        ConversionError: no row is fit to travel.
    """
    rows = []
    if recipe.batch == "rows":
        rows = choose_rows(recipe.golden_rows, proven.parity, proven.doubtful)
    return Packed(
        data=proven.data,
        opset=proven.opset,
        ir=proven.ir,
        golden=gather(proven.samples, proven.expected, rows, proven.edges if rows else {}),
        edges=tuple(proven.edges),
        tolerances={
            name: settle_tolerance(array, recipe.tolerance)
            for name, array in proven.expected.items()
        },
        precision="float16" if proven.half else "float32",
        parity={"float16": proven.half} if proven.half else {},
    )


def compose(
    recipe: Recipe,
    converted: Converted,
    proven: Proven,
    packed: Packed,
    *,
    columns: Sequence[str],
    contents: Mapping[str, str],
) -> tuple[Manifest, dict[str, bytes]]:
    """Write the manifest and gather the members.

    Args:
        recipe: what was asked.
        converted: what the framework's process left.
        proven: the model and its numbers.
        packed: what travels.
        columns: names of the samples' columns.
        contents: sha256 of what the recipe points to.
    """
    members = {MODEL: packed.data, GOLDEN: write_safetensors(packed.golden)}
    artefacts = [ArtefactEntry("onnx", MODEL, packed.precision, packed.opset, packed.ir)]
    also = packed.also
    while also is not None:
        artefacts.append(_add(also, members))
        also = also.also
    input_processing, output_processing = describe_processing(
        recipe, proven.inputs, proven.outputs, converted.result, columns
    )
    manifest = Manifest(
        format="edged-bundle-v1",
        name=recipe.name,
        release=recipe.release,
        version=recipe.human_version,
        floor=recipe.floor,
        targets=recipe.only_for,
        statistics=gather_statistics(proven.samples, proven.expected),
        inputs=proven.inputs,
        outputs=proven.outputs,
        artefacts=tuple(artefacts),
        members=tuple(
            member(name, "onnx" if name.endswith(".onnx") else "safetensors", data)
            for name, data in members.items()
        ),
        golden=Golden(
            file=GOLDEN,
            rows=_row_count(packed) if recipe.batch == "rows" else 1,
            tolerances=packed.tolerances,
        ),
        input_processing=input_processing,
        output_processing=output_processing,
        parity=_parity_fields(recipe, converted, proven, contents.get("samples"))
        | {"edges": list(packed.edges)}
        | packed.parity,
        provenance=_provenance(recipe, converted, proven, contents) | packed.provenance,
    )
    return manifest, members


def _add(packed: Packed, members: dict[str, bytes]) -> ArtefactEntry:
    """Put another precision among the members: the file, and its answers without the inputs."""
    called = packed.precision + ("" if packed.runtime == "onnx" else f"-{packed.runtime}")
    model, golden = ALSO.format(called), ALSO_GOLDEN.format(called)
    answers = {name: array for name, array in packed.golden.items() if name.startswith("out.")}
    members |= {model: packed.data, golden: write_safetensors(answers)}
    promised = Golden(file=golden, rows=_row_count(packed), tolerances=packed.tolerances)
    return ArtefactEntry(packed.runtime, model, packed.precision, packed.opset, packed.ir, promised)


def _row_count(packed: Packed) -> int:
    return len(next(iter(packed.golden.values())))


def _parity_fields(
    recipe: Recipe, converted: Converted, proven: Proven, samples_sha256: str | None
) -> dict[str, object]:
    fields: dict[str, object] = {
        "grade": VERIFIED if samples_sha256 and recipe.samples_are == "own" else CHECKED,
        "reference": converted.result.reference,
        "rows": proven.parity[0].rows,
        "rtol": recipe.tolerance.rtol,
        "atol": recipe.tolerance.atol,
        "outputs": {
            result.name: {
                "max_abs": round_up(result.max_abs),
                "max_rel": round_up(result.max_rel),
                "rows_beyond": result.rows_beyond,
                "label_agreement": result.label_agreement,
            }
            for result in proven.parity
        },
    }
    if samples_sha256:
        fields["samples_sha256"] = samples_sha256
    return fields


def _provenance(
    recipe: Recipe, converted: Converted, proven: Proven, contents: Mapping[str, str]
) -> dict[str, object]:
    """Where the bundle comes from: contents and versions; no time, path or host."""
    fields: dict[str, object] = {
        "converter": f"edged-convert {__version__}",
        "framework": converted.result.framework,
        "packages": {
            "onnx": onnx.__version__,
            "onnxruntime": ORT_VERSION,
            "numpy": np.__version__,
            "msgspec": msgspec.__version__,
        },
        "recipe_sha256": recipe.digest(contents),
        "source": contents["source"],
        "target": find_target(recipe.target).to_fields(),
    }
    if proven.remedies:
        fields["remedies"] = [msgspec.to_builtins(entry) for entry in proven.remedies]
    if proven.baked:
        fields["baked"] = dict(proven.baked)
    if recipe.origin:
        fields["origin"] = dict(recipe.origin)
    if "weights" in contents:
        fields["weights_sha256"] = contents["weights"]
    return fields
