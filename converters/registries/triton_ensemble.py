"""Triton ensembles: checked as the data flow that they are, and built into one graph.

The steps become one ONNX graph and one bundle: the same tensors in and out, computed in the same
order (where that cannot be: ``triton_pipeline.py``). In both maps the key is the step's own tensor
and the value the ensemble's; the order of steps is decided by the data, not by the listing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import compose, helper, version_converter

from converters.errors import UnsupportedModelError
from converters.registries.triton_model import TritonModel
from edged.errors import first_line
from edged.tensors import BATCH

MAX_STEPS = 64


@dataclass(frozen=True)
class Step:
    """One step, in the order in which data flows.

    Args:
        model: the member's name.
        version: a number, or -1 for its latest.
        inputs: member's input → ensemble tensor.
        outputs: member's output → ensemble tensor.
    """

    model: str
    version: int
    inputs: dict[str, str]
    outputs: dict[str, str]


def read_steps(model: TritonModel) -> list[Step]:
    """The steps in the order of the data flow.

    Raises:
        UnsupportedModelError: a tensor that nobody or more than one makes, or a cycle; names it.
    """
    config = model.config.ensemble_scheduling
    steps = [
        Step(entry.model_name, int(entry.model_version) if entry.HasField("model_version") else -1,
             dict(entry.input_map), dict(entry.output_map))
        for entry in config.step
    ]  # fmt: skip
    if not steps or len(steps) > MAX_STEPS:
        raise UnsupportedModelError(f"ensemble_scheduling has {len(steps)} steps, expected some")
    if config.max_inflight_requests:
        model.differences.append("max_inflight_requests: the steps are one call, none is in flight")
    if any(entry.model_namespace for entry in config.step):
        model.differences.append("model_namespace: members are looked for in this repository")
    made = {entry.name: "the ensemble's input" for entry in model.config.input}
    for step in steps:
        for tensor in step.outputs.values():
            if tensor in made:
                raise UnsupportedModelError(
                    f'ensemble tensor "{tensor}" is made twice: by {made[tensor]} and by step '
                    f'"{step.model}" (in a map the key is the step\'s tensor, the value the '
                    "ensemble's)"
                )
            made[tensor] = f'step "{step.model}"'
    for step in steps:
        for name, tensor in step.inputs.items():
            if tensor not in made:
                raise UnsupportedModelError(
                    f'step "{step.model}" needs "{tensor}" for its input "{name}", which no step '
                    f"makes (there are {', '.join(made)}; in a map the key is the step's tensor, "
                    "the value the ensemble's)"
                )
    for entry in model.config.output:
        if entry.name not in made:
            raise UnsupportedModelError(f'ensemble output "{entry.name}" is made by no step')
    return _sorted(steps, {entry.name for entry in model.config.input})


def _sorted(steps: list[Step], ready: set[str]) -> list[Step]:
    ordered: list[Step] = []
    waiting = list(steps)
    while waiting:
        possible = [step for step in waiting if ready.issuperset(step.inputs.values())]
        if not possible:
            names = ", ".join(step.model for step in waiting)
            raise UnsupportedModelError(
                f"ensemble_scheduling: the steps {names} wait for each other"
            )
        for step in possible:
            ready.update(step.outputs.values())
            waiting.remove(step)
        ordered += possible
    return ordered


def fuse(
    model: TritonModel, steps: list[Step], members: Mapping[int, onnx.ModelProto]
) -> onnx.ModelProto:
    """One graph of all steps.

    Args:
        model: the ensemble.
        steps: in the order of the data flow.
        members: each step's graph as its clients see it, by the step's position.

    Raises:
        UnsupportedModelError: a map names a tensor that the member has not, or opsets that cannot
            be brought together.
    """
    opset = max(_opset(graph) for graph in members.values())
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    functions: list[onnx.FunctionProto] = []
    opsets = {"": opset}
    outputs: dict[str, onnx.ValueInfoProto] = {}
    inputs: dict[str, onnx.ValueInfoProto] = {}
    for index, step in enumerate(steps):
        graph = compose.add_prefix(_to_opset(members[index], opset, step.model), f"s{index}_")
        functions += graph.functions
        opsets.update({e.domain: e.version for e in graph.opset_import if e.domain})
        for name, tensor in step.inputs.items():
            inputs[tensor] = _find(graph.graph.input, f"s{index}_{name}", step, name)
            nodes.append(helper.make_node("Identity", [tensor], [f"s{index}_{name}"]))
        given = {f"s{index}_{name}" for name in step.inputs}
        own = {tensor.name for tensor in graph.graph.initializer}
        for value in graph.graph.input:
            if value.name not in given | own:
                raise UnsupportedModelError(
                    f'step "{step.model}": nothing is mapped to its input '
                    f'"{value.name.removeprefix(f"s{index}_")}"'
                )
        nodes += graph.graph.node
        weights += graph.graph.initializer
        for name, tensor in step.outputs.items():
            outputs[tensor] = _find(graph.graph.output, f"s{index}_{name}", step, name)
            nodes.append(helper.make_node("Identity", [f"s{index}_{name}"], [tensor]))
    wanted = [entry.name for entry in model.config.output]
    made = helper.make_graph(
        nodes, "ensemble",
        [_named(inputs[entry.name], entry.name) for entry in model.config.input
         if entry.name in inputs],
        [_named(outputs[name], name) for name in wanted],
        weights,
    )  # fmt: skip
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    ir = max(graph.ir_version for graph in members.values())
    return helper.make_model(made, opset_imports=imports, ir_version=ir, functions=functions)


def _find(
    values: list[onnx.ValueInfoProto], full: str, step: Step, name: str
) -> onnx.ValueInfoProto:
    for value in values:
        if value.name == full:
            return value
    raise UnsupportedModelError(
        f'step "{step.model}" has no tensor "{name}" (in a map the key is the step\'s tensor, the '
        "value the ensemble's)"
    )


def _named(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    """The same tensor under the ensemble's name; members call the batch axis differently."""
    copy = onnx.ValueInfoProto.FromString(value.SerializeToString())
    copy.name = name
    shape = copy.type.tensor_type.shape
    if len(shape.dim) and not shape.dim[0].HasField("dim_value"):
        shape.dim[0].dim_param = BATCH
    return copy


def _opset(model: onnx.ModelProto) -> int:
    return max((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), default=1)


def _to_opset(model: onnx.ModelProto, opset: int, name: str) -> onnx.ModelProto:
    if _opset(model) == opset:
        return model
    try:
        return version_converter.convert_version(model, opset)
    except Exception as exc:
        first = first_line(exc, 200)
        raise UnsupportedModelError(
            f'step "{name}" cannot be brought from opset {_opset(model)} to {opset}: {first}'
        ) from exc
