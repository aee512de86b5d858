"""Triton ensembles that cannot be one graph, as pipelines of edged's configuration.

One graph is better where it is possible: it is proven as a whole and goes about as one bundle.
Where a step is no ONNX file, or the steps' opsets do not meet, they are asked one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from converters.errors import UnsupportedModelError
from converters.registries.resolved import model_name
from converters.registries.triton_ensemble import Step
from converters.registries.triton_model import TritonModel, dtype_of
from edged.config.pipeline import PipelineConfig
from edged.manifest import Manifest
from edged.pipelines.plan import plan_pipeline
from edged.tensors import BATCH

Manifests = Mapping[str, Mapping[int, Manifest]]
"""Of the models that were accepted: by edged's name and release."""
_TENSOR = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", re.ASCII)


def pipeline_section(model: TritonModel, steps: list[Step], manifests: Manifests) -> dict[str, Any]:
    """The ensemble as a section of ``pipelines``, planned as the daemon will plan it.

    Args:
        model: the ensemble.
        steps: in the order of the data flow.
        manifests: of the bundles that its steps became.

    Returns:
        The section.

    Raises:
        UnsupportedModelError: a step is not there, or does not fit; names it.
    """
    names = [_step_name(index, step.model) for index, step in enumerate(steps)]
    made = {entry.name: entry.name for entry in model.config.input}
    for name, step in zip(names, steps, strict=True):
        made.update({tensor: f"{name}.{output}" for output, tensor in step.outputs.items()})
    section = {
        "release": max(model.versions),
        "inputs": {_tensor(entry.name): _type(model, entry) for entry in model.config.input},
        "steps": [
            {
                "name": name,
                "model": _member(step, manifests),
                "inputs": {taken: made[tensor] for taken, tensor in step.inputs.items()},
            }
            for name, step in zip(names, steps, strict=True)
        ],
        "outputs": {_tensor(entry.name): made[entry.name] for entry in model.config.output},
    }
    _check(model, section, manifests)
    return section


def _step_name(index: int, model: str) -> str:
    return f"s{index}_{re.sub('[^a-z0-9_]', '_', model.lower())}"[:32]


def _tensor(name: str) -> str:
    if not _TENSOR.fullmatch(name):
        raise UnsupportedModelError(f'"{name}" is no name for an input or output of a pipeline')
    return name


def _type(model: TritonModel, entry: Any) -> str:
    """``dims`` as a pipeline writes it; -1 is a free axis of its own."""
    axes = [
        str(size) if size > 0 else re.sub("[^a-z0-9_]", "_", f"{entry.name.lower()}_{index}")[-32:]
        for index, size in enumerate(entry.dims)
    ]
    if model.config.max_batch_size > 0:
        axes.insert(0, BATCH)
    return f"{dtype_of(entry)}[{','.join(axes)}]"


def _member(step: Step, manifests: Manifests) -> str:
    name = model_name(step.model)
    found = manifests.get(name)
    if not found:
        raise UnsupportedModelError(f'step "{step.model}" was not accepted as a model of its own')
    if step.version <= 0:
        return name
    if step.version not in found:
        raise UnsupportedModelError(
            f'step "{step.model}": version {step.version} is not among those that were accepted'
        )
    return f"{name}@{step.version}"


def _check(model: TritonModel, section: dict[str, Any], manifests: Manifests) -> None:
    def manifest_of(name: str, selector: int | str | None) -> Manifest | None:
        found = manifests[name]
        return found[selector if isinstance(selector, int) else max(found)]

    config = msgspec.convert(section, PipelineConfig)
    plan, problems = plan_pipeline(model_name(model.name), config, manifest_of, Path)
    if plan is None:
        path, text = problems[0]
        raise UnsupportedModelError(f"{path}: {text}")
    for entry, spec in zip(model.config.output, plan.outputs, strict=True):
        wanted = [*([BATCH] if model.config.max_batch_size > 0 else []), *entry.dims]
        fits = len(wanted) == len(spec.shape) and all(
            have == want for have, want in zip(spec.shape, wanted, strict=True) if want != -1
        )
        if spec.dtype != dtype_of(entry) or not fits:
            raise UnsupportedModelError(
                f'output "{entry.name}" is {spec}; the configuration says {_type(model, entry)}'
            )
