"""The gate as a whole: from what the throw-away process left to a model that is proven.

Decides nothing by itself; each check is a file of its own and may refuse. What was checked, and
what could not be, is kept for the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from converters import graph, naming
from converters.baked.proof import bake
from converters.baked.raw import Raw
from converters.edges import Edge
from converters.elements import STEP, is_text
from converters.gate.checks import Checks
from converters.gate.edges import prove_edges
from converters.gate.names import refuse_leftovers
from converters.gate.precision import FLOAT16_MAX, refuse_overflow
from converters.gate.rows import prove_rows
from converters.gate.special import refuse_special
from converters.parity import OutputParity, as_output, find_ties, judge, settle_labels
from converters.precision.half_proof import make_half
from converters.recipe import Recipe
from converters.sandbox import Converted
from converters.session import VERSION, Run, open_session
from converters.signature import read_signature
from converters.sources.base import Remedy, run_in_rows
from converters.targets.table import Target, find_target
from edged.manifest import TensorEntry
from edged.store.onnx_check import check_onnx
from edged.tensors import BFLOAT16, Array


@dataclass(frozen=True)
class Proven:
    """A clean model with its signature and the numbers that prove it.

    Args:
        data: the ONNX file's bytes.
        opset: of its main operators.
        ir: its IR version.
        inputs: the signature.
        outputs: the signature.
        samples: the rows it was proven on, by input.
        expected: the framework's answers.
        got: the converted model's answers, with the framework's label where two are tied.
        edges: the edge cases that the framework took and on which both agree.
        parity: the numbers, an entry an output.
        doubtful: rows whose best class is a tie.
        remedies: the source's repaired traps, then the gate's own.
        checks: what was looked at.
        baked: the pre-processing inside the model, in words, by input; the samples are raw then.
        half: what float16 took and lost, for the manifest; empty for a model as it came.
    """

    data: bytes
    opset: int
    ir: int
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    samples: dict[str, Array]
    expected: dict[str, Array]
    got: dict[str, Array]
    edges: dict[str, Edge]
    parity: tuple[OutputParity, ...]
    doubtful: frozenset[int]
    remedies: tuple[Remedy, ...]
    checks: Checks
    baked: dict[str, str] = field(default_factory=dict)
    half: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class _Case:
    """Model and samples under the names that the bundle gives them."""

    model: onnx.ModelProto
    remedies: tuple[Remedy, ...]
    samples: dict[str, Array]
    reference: dict[str, Array]
    edges: dict[str, Edge]
    label_of: dict[str, str]
    baked: dict[str, str] = field(default_factory=dict)
    half: dict[str, object] = field(default_factory=dict)


def prove(recipe: Recipe, converted: Converted, raw: Raw | None = None) -> Proven:
    """Clean a graph, and run it against the framework's numbers.

    Args:
        recipe: what was asked.
        converted: what the framework's process left.
        raw: the samples before pre-processing, where that is to be baked in.

    Raises:
        UnsupportedModelError: it holds something that the target cannot take.
        ParityError: its numbers are not the framework's.
        ConversionError: it does not load or run.
    """
    checks = Checks()
    case = _begin(recipe, converted, raw, checks)
    began = graph.serialize(case.model)
    run = open_session(began)
    known: dict[str, Array] = {}
    if recipe.batch == "rows":
        with checks.step("rows") as said:
            sizes, known = prove_rows(case.model, run, case.samples, recipe.tolerance)
            listed = ", ".join(map(str, sizes))
            said.append(f"rows give the same alone, in pairs and together (runs of {listed})")
    expected, got, parity = _prove_numbers(recipe, case, _answers(run, case, recipe, known), checks)
    edges = prove_edges(
        case.edges,
        run,
        case.samples,
        tolerance=recipe.tolerance,
        label_of=case.label_of,
        checks=checks,
        asked_nan=raw is None,
    )
    _prove_float16(case, got, checks)
    inputs, outputs = read_signature(case.model, case.samples, got, recipe.batch)
    data = graph.serialize(case.model)
    with checks.step("file") as said:
        check_onnx(data, {})
        if data != began:  # those that did not change have just given all these numbers
            _run_final(open_session(data), case.samples, recipe.batch)
        said.append(f"the packed bytes load and run on ONNX Runtime {VERSION}")
    tied = [find_ties(expected[name], recipe.tolerance) for name in case.label_of.values()]
    return Proven(
        data=data,
        opset=graph.opset_of(case.model),
        ir=case.model.ir_version,
        inputs=inputs,
        outputs=outputs,
        samples=case.samples,
        expected=expected,
        got=got,
        edges=edges,
        parity=parity,
        # On a tie another processor may choose the other label: no golden row.
        doubtful=frozenset(np.flatnonzero(tied[0]).tolist() if tied else ()),
        remedies=case.remedies,
        checks=checks,
        baked=case.baked,
        half=case.half,
    )


def _begin(recipe: Recipe, converted: Converted, raw: Raw | None, checks: Checks) -> _Case:
    """The model as it is to be packed: settled, then with all that the recipe puts into it."""
    target = find_target(recipe.target)
    case = _settle(recipe, converted, target, checks)
    special = refuse_special(case.model, recipe.precision, bakes=raw is not None)
    if special and recipe.edges == "auto" and recipe.batch == "rows" and not case.edges:
        detail = "the model answers none of the made rows, or with whole numbers alone"
        checks.add("edges", "not checked", detail)
    if raw is not None:
        case = _bake(recipe, case, raw, converted.result.input_names, checks)
    if recipe.precision == "float16":
        model, half = make_half(
            case.model,
            case.samples,
            case.reference,
            tolerance=recipe.tolerance,
            max_drop=recipe.max_accuracy_drop,
            label_of=case.label_of,
            target=target,
            checks=checks,
        )
        case = replace(case, model=model, half=half)
    return case


def _settle(recipe: Recipe, converted: Converted, target: Target, checks: Checks) -> _Case:
    """Bring graph, samples and answers under their final names; refuse what no runtime takes."""
    result = converted.result
    inputs = _names(recipe.input_names, result.input_names)
    outputs = _names(recipe.output_names, result.output_names)
    with checks.step("form") as said:
        raw = graph.parse(converted.model)
        remedies = graph.find_remedies(raw)
        model = graph.clean(raw, recipe.opset, target)
        refuse_leftovers(model, result.input_names, result.output_names)
        naming.rename(model, inputs, outputs)
        naming.name_inner_values(model)
        said.append(
            f"opset {graph.opset_of(model)} and IR {model.ir_version}; all operators known to ONNX "
            f"Runtime {target.onnxruntime} ({target.title}); names settled, nothing of the machine"
        )
    _look_at_tensorrt(graph.opset_of(model), target, checks)
    renamed = dict(zip(result.output_names, outputs, strict=True))
    edges = converted.edges if recipe.edges == "auto" else {}
    return _Case(
        model=model,
        remedies=(*result.remedies, *remedies),
        samples=dict(zip(inputs, converted.inputs.values(), strict=True)),
        reference=dict(zip(outputs, converted.outputs.values(), strict=True)),
        edges={
            name: (
                dict(zip(inputs, made.values(), strict=True)),
                dict(zip(outputs, answers.values(), strict=True)),
            )
            for name, (made, answers) in edges.items()
        },
        label_of={renamed[name]: renamed[scores] for name, scores in result.label_of.items()},
    )


def _bake(
    recipe: Recipe, case: _Case, raw: Raw, own_names: tuple[str, ...], checks: Checks
) -> _Case:
    """The case with the pre-processing inside the model and raw samples."""
    named = raw.by_input(own_names)
    of = {name: named[own] for name, own in zip(case.samples, own_names, strict=True)}
    works = {name: raw.works[own] for name, own in of.items() if own in raw.works}
    samples = {
        name: raw.samples[of[name]] if name in works else array
        for name, array in case.samples.items()
    }
    edges = {
        edge: (
            {k: raw.edges[edge][of[k]] if k in works else array for k, array in inputs.items()},
            answers,
        )
        for edge, (inputs, answers) in case.edges.items()
    }
    model = bake(
        case.model,
        works,
        samples,
        case.samples,
        target=find_target(recipe.target),
        tolerance=recipe.tolerance,
        checks=checks,
    )
    told = {name: work.told() for name, work in works.items()}
    return replace(case, model=model, samples=samples, edges=edges, baked=told)


def _names(wanted: tuple[str, ...], own: tuple[str, ...]) -> tuple[str, ...]:
    """The recipe's names for the first ones, their own for the rest."""
    return (*wanted, *own[len(wanted) :])


def _look_at_tensorrt(opset: int, target: Target, checks: Checks) -> None:
    """Say what TensorRT will make of it: nothing here can ask it."""
    highest = target.tensorrt_max_opset
    if highest is None:
        return
    name = f"TensorRT {target.tensorrt}"
    if opset > highest:
        detail = (
            f"{name} reads opset {highest} at most, this is {opset}: the device will serve it with "
            "ONNX Runtime alone; ask for a lower --opset to build engines"
        )
        checks.add("tensorrt", "remark", detail)
        return
    detail = f"opset {opset} is one that {name} reads; engines are built and proven on the device"
    checks.add("tensorrt", "not checked", detail)


def _answers(
    run: Run, case: _Case, recipe: Recipe, known: dict[str, Array]
) -> Callable[[], dict[str, Array]]:
    """What gives the converted model's answers to all samples; the first ones may be known."""
    have = len(next(iter(known.values()), ()))
    total = len(next(iter(case.samples.values()))) if known else 0

    def answer() -> dict[str, Array]:
        if not known:
            return run_in_rows(run, case.samples, recipe.batch)
        if total <= have:
            return {name: array[:total] for name, array in known.items()}
        rest = {name: array[have:] for name, array in case.samples.items()}
        more = run_in_rows(run, rest, recipe.batch)
        return {name: np.concatenate([array, more[name]]) for name, array in known.items()}

    return answer


def _prove_numbers(
    recipe: Recipe, case: _Case, answer: Callable[[], dict[str, Array]], checks: Checks
) -> tuple[dict[str, Array], dict[str, Array], tuple[OutputParity, ...]]:
    """The framework's answers, the converted model's, and how they compare."""
    with checks.step("numbers") as said:
        got = answer()
        expected = {
            name: as_output(name, array, got[name]) for name, array in case.reference.items()
        }
        parity = judge(expected, got, recipe.tolerance, case.label_of)
        said.append(f"{parity[0].rows} sample rows within the tolerance")
        if any(map(is_text, expected.values())):
            said.append("strings are equal")
        if any(array.dtype == BFLOAT16 for array in expected.values()):
            said.append(f"in bfloat16 that is one of its steps, rtol {STEP:g}, where you ask less")
    for result in parity:
        if result.is_constant:
            detail = f'output "{result.name}" is the same for every sample: nothing proves it'
            checks.add("numbers", "remark", detail)
    return expected, settle_labels(expected, got, recipe.tolerance, case.label_of), parity


def _prove_float16(case: _Case, got: Mapping[str, Array], checks: Checks) -> None:
    with checks.step("float16") as said:
        ranges = refuse_overflow(case.model, case.samples)
        said.append(
            f"largest magnitude {ranges[0].largest:.3g} of {FLOAT16_MAX:g}, at {ranges[0].operator}"
            if ranges
            else "nothing in the graph is float16"
        )
        if any(array.dtype == BFLOAT16 for array in (*case.samples.values(), *got.values())):
            said.append("bfloat16 reaches as far as float32 and hides no overflow: no ranges of it")


def _run_final(run: Run, samples: Mapping[str, Array], batch: str) -> None:
    """The bytes that are packed must load and run too, not only those before the last rename."""
    rows = 1 if batch == "rows" else None
    run({name: array[:rows] if rows else array for name, array in samples.items()})
