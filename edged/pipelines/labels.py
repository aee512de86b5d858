"""Scores to names: the best of them, by the labels of a bundle or of a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edged.config.pipeline import PipelineConfig
from edged.config.pipeline_text import LabelsConfig
from edged.errors import FieldError
from edged.manifest import Manifest
from edged.pipelines.graph import split_member
from edged.pipelines.lines import read_lines
from edged.pipelines.step import Values, Work
from edged.processing.texts import pack_texts
from edged.tensors import DTYPES, Array, Axis, TensorSpec


class Label(NamedTuple):
    """A class: its name, the lowest score that it needs, and what is said below that."""

    name: str
    threshold: float | None = None
    instead: str = ""


def labels_work(config: LabelsConfig, labels: Sequence[Label] | None) -> Work:
    """``label``, ``index`` and ``score`` of the best, or of the ``top`` best along an axis.

    Args:
        config: the step's.
        labels: of the classes in order; None where the bundle is not here, so that nothing that
            needs it is planned.
    """
    labels = labels or ()
    where = "labels.file" if config.file is not None else "labels.of"
    # The last row is of no class.
    names = pack_texts([*(one.name.encode() for one in labels), b""])
    others = pack_texts([*(one.instead.encode() for one in labels), b""])
    width = max(names.shape[1], others.shape[1])
    names, others = (np.pad(one, ((0, 0), (0, width - one.shape[1]))) for one in (names, others))
    lowest = -math.inf if config.threshold is None else config.threshold
    needed = [lowest if one.threshold is None else one.threshold for one in labels]
    needs = np.array([*needed, math.inf])

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        spec = inputs["from"]
        if DTYPES[spec.dtype].numpy.kind not in "fiu" or not spec.shape:
            raise FieldError("labels.from", f"is {spec}; expected scores along the last axis")
        classes = spec.shape[-1]
        if classes != len(labels):
            raise FieldError(where, f"has {len(labels)} labels; the scores are {spec}")
        if config.top > len(labels):
            raise FieldError("labels.top", f"is {config.top}; there are {len(labels)} classes")
        shape: tuple[Axis, ...] = spec.shape[:-1]
        if config.top > 1:
            shape = (*shape, config.top)
        return [
            TensorSpec("label", "uint8", (*shape, width)),
            TensorSpec("index", "int64", shape),
            TensorSpec("score", "float32", shape),
        ]

    def run(values: Values) -> Values:
        index, scores = _best(values["from"], config.top)
        index = np.where(np.isnan(scores), len(labels), index)
        with np.errstate(invalid="ignore"):
            passes = scores >= needs[index]
        label = np.where(passes[..., None], names[index], others[index])
        score = scores.astype(np.float32)
        return {"label": label, "index": np.where(passes, index, -1), "score": score}

    reads = {"from": config.from_} | ({"of": config.of} if config.of is not None else {})
    return Work(reads, outputs, run, texts=("label",))


def _best(scores: Array, top: int) -> tuple[Array, Array]:
    """Indexes and scores, best first, equal ones in their order, NaN last."""
    if top == 1:
        index = np.where(np.isnan(scores), -np.inf, scores).argmax(axis=-1)
        return index, np.take_along_axis(scores, index[..., None], axis=-1)[..., 0]
    index = np.argsort(-scores.astype(np.float64), axis=-1, kind="stable")[..., :top]
    return index, np.take_along_axis(scores, index, axis=-1)


def read_labels(path: Path) -> list[Label]:
    """Labels out of a file, one a line; after a tab its threshold, after another what else to say.

    Raises:
        FieldError: at ``labels.file``: it cannot be read, or a line is wrong.
    """
    lines = read_lines(path, "labels.file")
    return [_label(line, f"{path}:{n}") for n, line in enumerate(lines, 1)]


def _label(line: str, where: str) -> Label:
    name, *more = line.split("\t")
    if len(more) > 2:
        text = "expected LABEL, or LABEL, THRESHOLD and INSTEAD with tabs between"
        raise FieldError("labels.file", f"{where}: {text}")
    threshold = None
    if more and more[0]:
        try:
            threshold = float(more[0])
        except ValueError:
            threshold = math.nan
        if not math.isfinite(threshold):
            text = f"{more[0][:40]!r} is no threshold; expected a number"
            raise FieldError("labels.file", f"{where}: {text}")
    return Label(name, threshold, more[1] if len(more) == 2 else "")


def bundle_labels(
    reference: str,
    config: PipelineConfig,
    manifest_of: Callable[[str, int | str | None], Manifest | None],
) -> list[Label] | None:
    """The labels that a model's bundle gives an output.

    Args:
        reference: STEP, or STEP.OUTPUT, of a step that asks a model.
        config: of the pipeline.
        manifest_of: the manifest of the release that will answer for a model.

    Returns:
        None where the bundle is not here, which has been complained about already.

    Raises:
        FieldError: at ``labels.of``: it is no model's output, or has no labels.
    """
    name, _, output = reference.partition(".")
    step = next((one for one in config.steps if one.name == name), None)
    if step is None or step.model is None:
        text = f'"{reference}" is no output of a model; name the one whose labels are meant'
        raise FieldError("labels.of", f"{text}, or give a file")
    manifest = manifest_of(*split_member(step.model))
    if manifest is None:
        return None
    found = _of_output(manifest, output)
    if not found:
        text = f'the bundle of model "{step.model}" gives "{reference}" no labels; give a file'
        raise FieldError("labels.of", text)
    return [Label(one) for one in found]


def _of_output(manifest: Manifest, output: str) -> tuple[str, ...]:
    if not output and len(manifest.outputs) == 1:
        output = manifest.outputs[0].name
    work = manifest.output_processing.get(output)
    return work.labels if work is not None else ()
