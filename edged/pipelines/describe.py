"""The manifest of a pipeline: what clients and bindings are told of it, as of any model.

Its one member is the definition itself. What a model's bundle says of an input or an output
(columns, pictures, labels) also holds where the pipeline passes just that one on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from edged.manifest import ArtefactEntry, Manifest, Member, TensorEntry
from edged.pipelines.graph import Node, Plan
from edged.specs import FeaturesInput, InputProcessing, OutputProcessing, TextInput
from edged.tensors import TensorSpec

FILE = "pipeline.json"


def definition_of(plan: Plan) -> bytes:
    """The pipeline as the operator wrote it, in one form."""
    # What is kept of its answers is no part of what it computes.
    config = msgspec.structs.replace(plan.config, cache=None)
    words = msgspec.to_builtins(config, enc_hook=int)  # a Size is an int
    return json.dumps(words, sort_keys=True, separators=(",", ":")).encode("ascii")


def describe(plan: Plan) -> Manifest:
    """The manifest that stands for a pipeline."""
    data = definition_of(plan)
    by_name = dict(zip(plan.members, plan.manifests, strict=True))
    return Manifest(
        format="edged-bundle-v1",
        name=plan.name,
        release=plan.config.release,
        version=str(plan.config.release),
        inputs=tuple(_entry(spec) for spec in plan.inputs),
        outputs=tuple(_entry(spec) for spec in plan.outputs),
        artefacts=(ArtefactEntry("pipeline", FILE),),
        members=(Member(FILE, "json", len(data), hashlib.sha256(data).hexdigest()),),
        input_processing=_input_words(plan, by_name),
        output_processing=_output_words(plan, by_name),
    )


def _entry(spec: TensorSpec) -> TensorEntry:
    return TensorEntry(spec.name, spec.dtype, spec.shape)


def _input_words(plan: Plan, manifests: Mapping[Any, Manifest]) -> dict[str, InputProcessing]:
    found: dict[str, InputProcessing] = {}
    for node in plan.nodes:
        for argument, slot in node.reads:
            if slot >= len(plan.inputs):
                continue
            work = _word_of(node, argument, manifests)
            if work is None:
                continue
            spec = plan.inputs[slot]
            if isinstance(work, FeaturesInput) and spec.shape[1:] != (len(work.names),):
                continue
            found.setdefault(spec.name, work)
    return found


def _word_of(
    node: Node, argument: str, manifests: Mapping[Any, Manifest]
) -> InputProcessing | None:
    if node.member is not None:
        return manifests[node.member].input_processing.get(argument)
    takes = node.work.takes_texts if node.work is not None else ()
    return TextInput() if argument in takes else None


def _output_words(plan: Plan, manifests: Mapping[Any, Manifest]) -> dict[str, OutputProcessing]:
    makers: dict[int, tuple[Node, str]] = {
        slot: (node, name) for node in plan.nodes for name, slot in node.writes
    }
    found: dict[str, OutputProcessing] = {}
    for spec, slot in zip(plan.outputs, plan.results, strict=True):
        if _is_text(slot, makers):
            found[spec.name] = OutputProcessing(text=True)
            continue
        node, name = makers.get(slot, (None, ""))
        if node is None or node.member is None:
            continue
        work = manifests[node.member].output_processing.get(name)
        fits = spec.shape and (not work or not work.labels or spec.shape[-1] == len(work.labels))
        if work is not None and fits:
            found[spec.name] = work
    return found


def _is_text(slot: int, makers: Mapping[int, tuple[Node, str]]) -> bool:
    """Whether a value is strings, also when they were gathered or chosen."""
    node, name = makers.get(slot, (None, ""))
    if node is None or node.work is None:
        return False
    if node.work.mode in ("gather", "first"):
        return all(_is_text(source, makers) for _, source in node.reads)
    return name in node.work.texts
