"""One model of a Triton repository through the ordinary conversion: recipes in, bundles out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from converters.elements import for_file
from converters.errors import ConversionError, UnsupportedModelError
from converters.recipe import make_recipe
from converters.registries.resolved import model_name
from converters.registries.triton_ensemble import Step, fuse, read_steps
from converters.registries.triton_graph import could_batch, fit, load_graph, metadata
from converters.registries.triton_model import TritonModel, dtype_of, labels_of, read_model
from converters.registries.triton_samples import write_warmup
from converters.registries.triton_settings import Batching, batching_of
from converters.samples import GENERATED_ROWS, generate
from converters.workflow import Report, convert

SAMPLE_ENDINGS = (".npz", ".npy", ".csv")
MADE = "made rows (bring real ones: --samples)"
MAX_NESTING = 3
"""Ensembles in ensembles; deeper ones are a mistake or an attack on our patience."""


@dataclass(frozen=True)
class Options:
    """What the user said for the whole repository.

    Args:
        repository: the folder of models.
        work: an empty folder for files between the two; gone afterwards.
        samples: a folder with NAME.npz, NAME.npy or NAME.csv for the models that have some.
        key: the private key to sign with.
        trust: whether sources that run code may be opened.
        target: the device that the bundles are for.
        progress: called with each step's name.
    """

    repository: Path
    work: Path
    samples: Path | None = None
    key: Path | None = None
    trust: bool = False
    target: str | None = None
    progress: Callable[[str], None] = lambda _step: None


@dataclass
class Made:
    """One bundle of one version: what it was proven on, and the metadata from before."""

    version: int
    report: Report
    proven_on: str
    before: dict[str, Any] = field(default_factory=dict)


def convert_version(
    model: TritonModel, version: int, options: Options, target: Path
) -> tuple[Made, Batching]:
    """Make the bundle of one version.

    Raises:
        EdgedError: why it cannot be one; nothing is left behind.
    """
    before: dict[str, Any] = {}
    if model.is_ensemble:
        graph, batching = fused(model, options)
        before = _declared(model)
        source = _save(graph, options.work / f"{model.name}-{version}")
    elif model.backend == "onnxruntime":
        path = model.file(version)
        graph = load_graph(path)
        before = metadata(graph)
        batching = batching_of(model, could_batch=could_batch(graph))
        unchanged = graph.SerializeToString(deterministic=True)
        fit(model, graph, batching.rows)
        is_same = graph.SerializeToString(deterministic=True) == unchanged
        source = path if is_same else _save(graph, options.work / f"{model.name}-{version}")
    else:
        batching = batching_of(model, could_batch=False)
        _need_shapes(model)
        before = _declared(model)
        source = model.file(version)
        graph = None
    fields = _fields(model, version, batching, options)
    samples, proven_on = _samples(model, graph, batching, options)
    recipe = make_recipe({**fields, **samples, "source": str(source)}, model.name)
    report = convert(
        recipe, target, key=options.key, trust=options.trust,
        progress=lambda step: options.progress(f"{model.name} {version}: {step}"),
    )  # fmt: skip
    return Made(version, report, proven_on, before), batching


def fused(
    model: TritonModel, options: Options, within: tuple[str, ...] = ()
) -> tuple[onnx.ModelProto, Batching]:
    """An ensemble as one graph, in its clients' view; ``within`` are the ensembles it stands in.

    Raises:
        UnsupportedModelError: a step that has no graph, or takes other batches; names it.
    """
    steps = read_steps(model)
    batching = batching_of(model, could_batch=False)
    members = {}
    path = (*within, model.name)
    for index, step in enumerate(steps):
        if step.model in path or len(path) > MAX_NESTING:
            raise UnsupportedModelError(f"ensembles in a circle: {' → '.join((*path, step.model))}")
        members[index] = _member(step, batching, options, path)
    graph = fuse(model, steps, members)
    fit(model, graph, batching.rows)
    names = ", ".join(step.model for step in steps)
    model.differences.append(
        f"ensemble_scheduling: its steps ({names}) run as one model; the members' own "
        "batching and instances do not count here"
    )
    return graph, batching


def _member(
    step: Step, batching: Batching, options: Options, path: tuple[str, ...]
) -> onnx.ModelProto:
    try:
        member = read_model(options.repository, step.model)
    except ConversionError as exc:
        raise UnsupportedModelError(f'step "{step.model}": {exc.message}') from exc
    if member.is_ensemble:
        graph, own = fused(member, options, path)
    elif member.backend != "onnxruntime":
        raise UnsupportedModelError(
            f'step "{step.model}" runs on {member.backend}; only steps in ONNX can be joined'
        )
    else:
        version = step.version if step.version > 0 else max(member.versions)
        graph = load_graph(member.file(version))
        own = batching_of(member, could_batch=could_batch(graph))
        fit(member, graph, own.rows)
    if bool(own.rows) != bool(batching.rows):
        raise UnsupportedModelError(
            f'step "{step.model}" has max_batch_size {own.rows}, the ensemble {batching.rows}: '
            "both need a batch axis, or neither"
        )
    return graph


def _fields(
    model: TritonModel, version: int, batching: Batching, options: Options
) -> dict[str, Any]:
    origin = {"tool": "triton", "model": model.name, "version": str(version)}
    for key in sorted(model.config.parameters):
        origin[f"parameter.{key[:100]}"] = model.config.parameters[key].string_value[:200]
    name = model_name(model.name)
    if name != model.name:
        note = f'name: "{name}", for "{model.name}" is none of edged\'s'
        model.differences += [] if note in model.differences else [note]
    fields = {"name": name, "release": version, "origin": origin,
              "batch": "rows" if batching.rows else "none"}  # fmt: skip
    if options.target is not None:
        fields["target"] = options.target
    if model.backend == "pytorch":
        fields["input_names"] = _positions(model.config.input)
        fields["output_names"] = _positions(model.config.output)
    labels = labels_of(model)
    outputs = [entry.name for entry in model.config.output]
    for output, words in labels.items():
        sizes = next(list(e.dims) for e in model.config.output if e.name == output)
        if output == outputs[0] and sizes[-1:] == [len(words)]:
            fields["labels"] = list(words)
        else:
            why = "a bundle names the first output's" if output != outputs[0] else (
                f"{len(words)} do not fit dims {sizes}"
            )  # fmt: skip
            model.differences.append(f'label_filename of "{output}": {why}; left out')
    return fields


def _positions(entries: Any) -> list[str]:
    """Names in the model's own order, for a file that has none: ``INPUT__1`` means the second.

    Empty where the configuration does not say the order; the file's own names then stay.
    """
    names = [entry.name for entry in entries]
    if len(names) == 1:
        return names
    order = {int(end): name for name in names if (end := name.rpartition("__")[2]).isdecimal()}
    return [order[i] for i in range(len(names))] if sorted(order) == list(range(len(names))) else []


def _samples(
    model: TritonModel, graph: onnx.ModelProto | None, batching: Batching, options: Options
) -> tuple[dict[str, str], str]:
    """The user's rows, else the warm-up's, else made ones; and which of them."""
    if options.samples is not None:
        for ending in SAMPLE_ENDINGS:
            path = options.samples / f"{model.name}{ending}"
            if path.is_file():
                return {"samples": str(path)}, "your samples"
    target = options.work / f"{model.name}.npz"
    if write_warmup(model, bool(batching.rows), target):
        return {"samples": str(target), "samples_are": "example"}, "the warm-up's rows"
    inputs = metadata(graph)["inputs"] if graph is not None else _declared(model)["inputs"]
    front = 1 if graph is not None and batching.rows else 0
    signature = {
        entry["name"]: (
            entry["dtype"],
            tuple(None if size < 0 else size for size in entry["shape"][front:]),
        )
        for entry in inputs
    }
    made = generate(signature, GENERATED_ROWS if batching.rows else 1)
    arrays: dict[str, Any] = {
        name: for_file(array if batching.rows else array[0]) for name, array in made.items()
    }
    np.savez(target, **arrays)
    return {
        "samples": str(target),
        "samples_are": "example",
    }, MADE


def _declared(model: TritonModel) -> dict[str, Any]:
    """Names, types and ``dims`` as the configuration has them."""
    return {
        kind: [
            {"name": e.name, "dtype": dtype_of(e), "shape": [int(size) for size in e.dims]}
            for e in entries
        ]
        for kind, entries in (("inputs", model.config.input), ("outputs", model.config.output))
    }


def _need_shapes(model: TritonModel) -> None:
    if not model.config.input:
        raise UnsupportedModelError(
            f"backend {model.backend}: the file does not say its inputs and neither does the "
            "configuration; write input and output into it"
        )
    for entry in (*model.config.input, *model.config.output):
        if entry.HasField("reshape"):
            raise UnsupportedModelError(
                f'"{entry.name}": reshape is built in for ONNX files only; export the model to ONNX'
            )


def _save(graph: onnx.ModelProto, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "model.onnx"
    path.write_bytes(graph.SerializeToString(deterministic=True))
    return path
