"""From a recipe to a bundle, step by step: read, convert apart, clean, prove, pack.

Decides nothing by itself: each step is a file of its own and may refuse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx

from converters import graph
from converters.contents import hash_sources
from converters.describe import describe_processing
from converters.errors import ConversionError
from converters.pack import member, pack
from converters.parity import OutputParity, find_ties, judge, round_up
from converters.recipe import Recipe, is_factory
from converters.samples import UNNAMED, choose_rows, load_samples, spread
from converters.sandbox import Converted, run_source
from converters.session import VERSION as ORT_VERSION
from converters.session import Run, open_session
from converters.signature import prove_rows, read_signature
from converters.sources.base import SourceJob, run_in_rows
from converters.sources.detect import Detected, detect
from converters.targets.table import find_target
from edged.errors import DeniedError
from edged.manifest import ArtefactEntry, Golden, Manifest, TensorEntry
from edged.specs import FeaturesInput
from edged.store.golden import write_safetensors
from edged.store.onnx_check import check_onnx
from edged.store.signing import Signer
from edged.tensors import Array
from edged.version import __version__

MODEL = "model.onnx"
GOLDEN = "golden.safetensors"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Report:
    """What a conversion did.

    Args:
        path: the bundle.
        digest: sha256 of its manifest.
        manifest: what it promises.
        parity: the numbers, per output.
        isolation: how far the framework's process was cut off.
        warnings: what the framework had to say.
        is_signed: whether a key signed it.
    """

    path: Path
    digest: str
    manifest: Manifest
    parity: tuple[OutputParity, ...]
    isolation: str
    warnings: tuple[str, ...]
    is_signed: bool


@dataclass(frozen=True)
class _Proven:
    """A clean model with its signature and the numbers that prove it."""

    data: bytes
    opset: int
    ir: int
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    samples: dict[str, Array]
    expected: dict[str, Array]
    parity: tuple[OutputParity, ...]
    doubtful: frozenset[int]


def convert(
    recipe: Recipe,
    output: Path | str,
    *,
    key: Path | str | None = None,
    trust: bool = False,
    progress: Progress = lambda _step: None,
) -> Report:
    """Make a bundle.

    Args:
        recipe: what to make.
        output: the ``.edgb`` file to write; replaced only when everything succeeded.
        key: a private key to sign with.
        trust: whether a source that runs code when it is opened may be opened.
        progress: called with each step's name.

    Raises:
        DeniedError: the source can run code and ``trust`` is off; it was not opened.
        UnsupportedModelError: the model holds something that a bundle cannot carry.
        ParityError: the converted numbers are not the framework's.
        ConversionError: anything else that the caller can put right.
    """
    detected = detect(recipe)
    if detected.runs_code and not trust:
        raise DeniedError(
            f"{detected.runs_code}: it was not opened. If you know where it comes from, say "
            "--trust; it then runs in a process of its own"
        )
    # Read before anything slow, so that a wrong key is told at once.
    signer = None if key is None else Signer.from_file(key)
    progress("reading samples")
    samples, columns = _read_samples(recipe)
    contents = hash_sources(recipe)
    progress(f"converting with {detected.framework}")
    job = _source_job(recipe, detected, columns)
    converted = run_source(job, samples, recipe.timeout_s)
    if hash_sources(recipe) != contents:
        raise ConversionError("a source file changed while it was converted; start again")
    progress("proving rows and numbers")
    proven = _prove(recipe, converted)
    progress("packing")
    manifest, members = _compose(recipe, converted, proven, columns, contents)
    data = pack(Path(output), manifest, members, [] if signer is None else [signer])
    return Report(
        path=Path(output),
        digest=hashlib.sha256(data).hexdigest(),
        manifest=manifest,
        parity=proven.parity,
        isolation=converted.result.isolation,
        warnings=converted.result.warnings,
        is_signed=signer is not None,
    )


def _source_job(recipe: Recipe, detected: Detected, columns: tuple[str, ...]) -> SourceJob:
    """What the throw-away process is told: absolute paths, and nothing that it does not need."""
    is_code = is_factory(recipe.source)
    return SourceJob(
        framework=detected.framework,
        source=recipe.source if is_code else str(Path(recipe.source).absolute()),
        weights=None if recipe.weights is None else str(Path(recipe.weights).absolute()),
        opset=recipe.opset,
        batch=recipe.batch,
        columns=columns,
        import_from=str(Path.cwd()) if detected.runs_code else "",
        cpu_seconds=recipe.timeout_s * 4,
        target=recipe.target,
    )


def _read_samples(recipe: Recipe) -> tuple[dict[str, Array], tuple[str, ...]]:
    samples, columns = load_samples(Path(recipe.samples))
    wanted = recipe.input_processing.get("*")
    if columns and isinstance(wanted, FeaturesInput):
        missing = [name for name in wanted.names if name not in columns]
        if missing:
            raise ConversionError(
                f"samples: no column {', '.join(missing)}; the file has {', '.join(columns)}"
            )
        samples = {UNNAMED: samples[UNNAMED][:, [columns.index(n) for n in wanted.names]]}
        columns = wanted.names
    if recipe.batch == "rows":
        samples = choose_rows(samples)
        if len(next(iter(samples.values()))) < 2:
            raise ConversionError("samples: one row proves nothing; bring at least 2, better 100")
    return samples, columns


def _prove(recipe: Recipe, converted: Converted) -> _Proven:
    """Clean the graph, then run it against the framework's numbers."""
    result = converted.result
    input_names = _names(recipe.input_names, result.input_names)
    output_names = _names(recipe.output_names, result.output_names)
    model = graph.clean(graph.parse(converted.model), recipe.opset, find_target(recipe.target))
    graph.rename(model, input_names, output_names)
    renamed = dict(zip(result.output_names, output_names, strict=True))
    label_of = {renamed[name]: renamed[scores] for name, scores in result.label_of.items()}
    samples = dict(zip(input_names, converted.inputs.values(), strict=True))
    run = open_session(graph.serialize(model))
    if recipe.batch == "rows":
        prove_rows(model, run, samples, recipe.tolerance)
    got = run_in_rows(run, samples, recipe.batch)
    expected = {
        name: _as_output(name, array, got[name])
        for name, array in zip(output_names, converted.outputs.values(), strict=True)
    }
    parity = judge(expected, got, recipe.tolerance, label_of)
    inputs, outputs = read_signature(model, samples, got, recipe.batch)
    data = graph.serialize(model)
    check_onnx(data, {})
    _run_final(open_session(data), samples, recipe.batch)
    tied = [find_ties(expected[scores], recipe.tolerance) for scores in label_of.values()]
    return _Proven(
        data=data,
        opset=graph.opset_of(model),
        ir=model.ir_version,
        inputs=inputs,
        outputs=outputs,
        samples=samples,
        expected=expected,
        parity=parity,
        # On a tie another processor may choose the other label: no golden row.
        doubtful=frozenset(np.flatnonzero(tied[0]).tolist() if tied else ()),
    )


def _names(wanted: tuple[str, ...], own: tuple[str, ...]) -> tuple[str, ...]:
    """The recipe's names for the first ones, their own for the rest."""
    return (*wanted, *own[len(wanted) :])


def _as_output(name: str, expected: Array, got: Array) -> Array:
    """The framework's numbers in the dtype and rank of the model's output (float64 → float32)."""
    if expected.shape != got.shape and expected.size == got.size and len(expected) == len(got):
        expected = expected.reshape(got.shape)
    if expected.dtype.kind == got.dtype.kind or expected.dtype.kind in "iu":
        return np.ascontiguousarray(expected.astype(got.dtype))
    raise ConversionError(
        f'output "{name}": the framework gives {expected.dtype}, the converted model {got.dtype}'
    )


def _run_final(run: Run, samples: Mapping[str, Array], batch: str) -> None:
    """The bytes that are packed must load and run too, not only those before the last rename."""
    rows = 1 if batch == "rows" else None
    run({name: array[:rows] if rows else array for name, array in samples.items()})


def _compose(
    recipe: Recipe,
    converted: Converted,
    proven: _Proven,
    columns: Sequence[str],
    contents: Mapping[str, str],
) -> tuple[Manifest, dict[str, bytes]]:
    """Write the manifest and gather the members."""
    rows = _golden_rows(recipe, proven)
    tensors = {f"in.{name}": _take(array, rows) for name, array in proven.samples.items()}
    tensors.update({f"out.{name}": _take(array, rows) for name, array in proven.expected.items()})
    members = {MODEL: proven.data, GOLDEN: write_safetensors(tensors)}
    input_processing, output_processing = describe_processing(
        recipe, proven.inputs, proven.outputs, converted.result, columns
    )
    manifest = Manifest(
        format="edged-bundle-v1",
        name=recipe.name,
        release=recipe.release,
        version=recipe.human_version,
        inputs=proven.inputs,
        outputs=proven.outputs,
        artefacts=(ArtefactEntry("onnx", MODEL, opset=proven.opset, ir=proven.ir),),
        members=(
            member(MODEL, "onnx", members[MODEL]),
            member(GOLDEN, "safetensors", members[GOLDEN]),
        ),
        golden=Golden(
            file=GOLDEN,
            rows=len(rows) or 1,
            tolerances={entry.name: recipe.tolerance for entry in proven.outputs},
        ),
        input_processing=input_processing,
        output_processing=output_processing,
        parity=_parity_fields(recipe, converted, proven, contents["samples"]),
        provenance=_provenance(recipe, converted, contents),
    )
    return manifest, members


def _golden_rows(recipe: Recipe, proven: _Proven) -> list[int]:
    """Rows that travel: evenly spread, and the one nearest to failing of each output."""
    if recipe.batch == "none":
        return []
    rows = [row for row in range(proven.parity[0].rows) if row not in proven.doubtful]
    if not rows:
        raise ConversionError(
            "the best class of every sample is a tie: is the model trained, are the samples real?"
        )
    worst = {result.worst_row for result in proven.parity}.intersection(rows)
    picked = spread(len(rows), max(1, recipe.golden_rows - len(worst)))
    return sorted(worst.union(rows[index] for index in picked))


def _take(array: Array, rows: list[int]) -> Array:
    return np.ascontiguousarray(array[rows] if rows else array)


def _parity_fields(
    recipe: Recipe, converted: Converted, proven: _Proven, samples_sha256: str
) -> dict[str, object]:
    return {
        "reference": converted.result.reference,
        "samples_sha256": samples_sha256,
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


def _provenance(
    recipe: Recipe, converted: Converted, contents: Mapping[str, str]
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
    if converted.result.remedies:
        fields["remedies"] = [msgspec.to_builtins(entry) for entry in converted.result.remedies]
    if recipe.origin:
        fields["origin"] = dict(recipe.origin)
    if "weights" in contents:
        fields["weights_sha256"] = contents["weights"]
    return fields
