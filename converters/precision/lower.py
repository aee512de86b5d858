"""From a proven float32 model to an int8 one that is proven too, or a refusal.

Decides nothing by itself: calibrate, quantise, run, hold against the budget, choose golden rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from converters import golden, graph
from converters.compose import Packed
from converters.edges import Edge
from converters.errors import ParityError, UnsupportedModelError
from converters.gate.prove import Proven
from converters.parity import compare, find_ties, round_up
from converters.precision.budget import Judged, judge, percent, refuse_loss, tell
from converters.precision.calibration import Rows
from converters.precision.kept import Kept, key_of
from converters.precision.opening import open_rows
from converters.precision.quantize import CPU, TENSORRT, Scheme, prepare, quantize
from converters.precision.ranges import ValueRange, measure_ranges, rows_at_once
from converters.recipe import Recipe
from converters.samples import spread
from converters.sandbox import Converted
from converters.session import VERSION as ORT_VERSION
from converters.session import Run, open_session
from converters.sources.base import run_in_rows
from converters.targets.table import find_target
from edged.manifest import Tolerance
from edged.store.onnx_check import check_onnx
from edged.tensors import Array
from edged.version import __version__

TWICE_ROWS = 64
"""Rows that are also run without the optimiser's int8 kernels, as float32 that is rounded at each
step: two right ways to run one graph, whose answers tell how far a third may be off."""
HEADROOM = 2
"""Another processor rounds elsewhere than both ways of running do here."""


def lower(
    recipe: Recipe,
    converted: Converted,
    proven: Proven,
    truth: Array | None,
    contents: Mapping[str, str],
    *,
    columns: Sequence[str] = (),
    keep: Path | None = None,
) -> Packed:
    """Make a proven model int8: for CPUs, and for TensorRT too where the target has it.

    TensorRT's is a further file (``also``), left out of the bundle where it loses more than the
    budget; both answer rows that are fit for both.

    Args:
        recipe: names the calibration file and the budget.
        converted: has the source's own names of inputs and outputs.
        proven: the float32 model, its samples and answers.
        truth: the right class of every sample, where it is known.
        contents: sha256 of what the recipe points to.
        columns: names of the samples' columns.
        keep: the file of the ranges so far, for a run after this one was cut off.

    Raises:
        ConversionError: what was given to calibrate on does not fit.
        UnsupportedModelError: nothing in the model gains from int8.
        ParityError: it loses more than the budget.
    """
    checks = proven.checks
    rows = open_rows(recipe, converted, proven, columns)
    with checks.step("calibration") as said:
        kept = Kept(keep, _key(recipe, converted, proven, contents, columns))
        ranges = _measure(recipe, proven, rows, kept)
        said.append(f"ranges of {len(ranges)} values from {rows.told()}{kept.told()}")
    if contents["calibration"] == contents.get("samples"):
        detail = "the samples are the calibration rows too: a loss on other rows may be larger"
        checks.add("calibration", "remark", detail)
    made = [_make(recipe, converted, proven, truth, ranges=ranges, scheme=CPU)]
    left_out: dict[str, str] = {}
    if find_target(recipe.target).tensorrt:
        try:
            made.append(_make(recipe, converted, proven, truth, ranges=ranges, scheme=TENSORRT))
        except (ParityError, UnsupportedModelError) as exc:
            left_out[TENSORRT.key] = exc.message
            checks.add(TENSORRT.key, "remark", f"left out of the bundle: {exc.message}")
    doubtful = frozenset[int]().union(*(one.doubtful for one in made))
    rows_that_travel = golden.choose_rows(recipe.golden_rows, proven.parity, doubtful)
    packed = _pack(proven, made, rows_that_travel)
    parity: dict[str, object] = {one.scheme.key: one.parity for one in made}
    provenance = _provenance(recipe, rows, contents["calibration"], made)
    return replace(
        packed,
        parity=parity | ({"left_out": left_out} if left_out else {}),
        provenance={"calibration": provenance},
    )


def _measure(recipe: Recipe, proven: Proven, rows: Rows, kept: Kept) -> dict[str, ValueRange]:
    return measure_ranges(
        prepare(proven.data),
        rows.chunks,
        recipe.calibration_method,
        most=rows_at_once(rows.row_bytes),
        kept=kept,
    )


def _key(
    recipe: Recipe,
    converted: Converted,
    proven: Proven,
    contents: Mapping[str, str],
    columns: Sequence[str],
) -> str:
    """All that decides the ranges, and nothing else: another budget needs no other ones."""
    result = converted.result
    data = (contents["calibration"], recipe.calibration_method, recipe.capture, recipe.truth)
    words = (recipe.input_processing, result.input_names, result.columns, columns)
    return key_of(proven.data, *data, *words, __version__, ORT_VERSION, np.__version__)


@dataclass(frozen=True)
class _Low:
    """An int8 model inside its budget.

    Args:
        scheme: for whom.
        data: its bytes.
        model: the same, parsed.
        got: its answers to the samples.
        tolerances: what two machines may differ by, by output.
        doubtful: rows that must not travel.
        edges: the edge cases that have a place in it, with its answers.
        parity: what it costs.
    """

    scheme: Scheme
    data: bytes
    model: onnx.ModelProto
    got: dict[str, Array]
    tolerances: dict[str, Tolerance]
    doubtful: frozenset[int]
    edges: dict[str, Edge]
    parity: dict[str, object]


def _make(
    recipe: Recipe,
    converted: Converted,
    proven: Proven,
    truth: Array | None,
    *,
    ranges: Mapping[str, ValueRange],
    scheme: Scheme,
) -> _Low:
    """Quantise, run on ONNX Runtime, and hold against the budget."""
    model = quantize(prepare(proven.data), ranges, find_target(recipe.target), scheme)
    data = graph.serialize(model)
    check_onnx(data, {})
    run = open_session(data)
    got = run_in_rows(run, proven.samples, "rows")
    with proven.checks.step("accuracy") as said:
        judged = judge(proven.expected, got, truth)
        refuse_loss(judged, recipe.max_accuracy_drop)
        budget = percent(recipe.max_accuracy_drop)
        said.append(f"{scheme.key} loses {tell(judged)}; the budget is {budget}")
    twice = _run_twice(data, proven.samples, got, max(TWICE_ROWS, recipe.golden_rows))
    tolerances = {
        name: _tolerance(recipe.tolerance, array, *twice.answers(name))
        for name, array in got.items()
    }
    _prove_alone(run, proven.samples, got, tolerances)
    return _Low(
        scheme=scheme,
        data=data,
        model=model,
        got=got,
        tolerances=tolerances,
        doubtful=_doubtful(converted, proven, twice, got, tolerances),
        edges=_edges(run, proven),
        parity=_parity(judged, recipe, proven, got, data),
    )


def _pack(proven: Proven, made: Sequence[_Low], rows: list[int]) -> Packed:
    """The first, and the others behind it; the inputs of each are the first of those before it."""
    later = made[1:]
    also = _pack(proven, later, rows) if later else None
    one = made[0]
    names = [name for name in (also.edges if also else ()) if name in one.edges]
    if also is not None and tuple(names) != also.edges:
        # It has an edge case that this one has no place for.
        also = _pack(proven, [replace(later[0], edges=_only(later[0].edges, names))], rows)
    edges = _only(one.edges, [*names, *(name for name in one.edges if name not in names)])
    return Packed(
        data=one.data,
        opset=graph.opset_of(one.model),
        ir=one.model.ir_version,
        golden=golden.gather(proven.samples, one.got, rows, edges),
        edges=tuple(edges),
        tolerances=one.tolerances,
        precision="int8",
        runtime=one.scheme.runtime,
        rows=tuple(rows),
        also=also,
    )


def _only(edges: Mapping[str, Edge], names: Sequence[str]) -> dict[str, Edge]:
    return {name: edges[name] for name in names}


@dataclass(frozen=True)
class _Twice:
    """Rows that were run in both ways, and the answers of both."""

    rows: list[int]
    first: dict[str, Array]
    second: dict[str, Array]

    def answers(self, name: str) -> tuple[Array, Array]:
        return self.first[name], self.second[name]


def _run_twice(
    data: bytes, samples: Mapping[str, Array], got: Mapping[str, Array], wanted: int
) -> _Twice:
    rows = spread(len(next(iter(samples.values()))), wanted)
    plain = open_session(data, optimise=False)
    again = run_in_rows(plain, {name: array[rows] for name, array in samples.items()}, "rows")
    return _Twice(rows, {name: array[rows] for name, array in got.items()}, again)


def _tolerance(asked: Tolerance, got: Array, first: Array, second: Array) -> Tolerance:
    """What two machines may differ by: one of the output's 255 steps, or twice what was seen."""
    if got.dtype.kind != "f":
        return asked
    wide = got.astype(np.float64)
    step = float(wide.max() - wide.min()) / 255
    seen = float(np.abs(first.astype(np.float64) - second).max())
    return Tolerance(rtol=asked.rtol, atol=round_up(max(asked.atol, step, HEADROOM * seen)))


def _doubtful(
    converted: Converted,
    proven: Proven,
    twice: _Twice,
    got: Mapping[str, Array],
    tolerances: Mapping[str, Tolerance],
) -> frozenset[int]:
    """Rows that must not travel: not run twice, a tie, or another label the other way."""
    doubtful = set(range(proven.parity[0].rows)) - set(twice.rows)
    names = dict(zip(converted.result.output_names, (e.name for e in proven.outputs), strict=True))
    for scores in converted.result.label_of.values():
        name = names[scores]
        doubtful.update(np.flatnonzero(find_ties(got[name], tolerances[name])).tolist())
    for name, array in twice.first.items():
        if array.dtype.kind != "f":
            other = (array != twice.second[name]).reshape(len(array), -1).any(axis=1)
            doubtful.update(twice.rows[index] for index in np.flatnonzero(other))
    return proven.doubtful | doubtful


def _prove_alone(
    run: Run,
    samples: Mapping[str, Array],
    got: Mapping[str, Array],
    tolerances: Mapping[str, Tolerance],
) -> None:
    """Rows were proven in float32; int8 kernels must keep them apart too.

    Raises:
        ParityError: the first row alone gets another answer than among the others.
    """
    alone = run({name: array[:1] for name, array in samples.items()})
    for name, array in alone.items():
        if (
            array.dtype.kind == "f"
            and compare(name, got[name][:1], array, tolerances[name]).rows_beyond
        ):
            raise ParityError(
                f'int8: output "{name}" differs for a row that is run alone; keep precision float32'
            )


def _edges(run: Run, proven: Proven) -> dict[str, Edge]:
    """The edge cases with this model's answers; a missing value has no place among 255 steps."""
    made: dict[str, Edge] = {}
    for name, (inputs, _) in proven.edges.items():
        if all(np.isfinite(array).all() for array in inputs.values()):
            outputs = run(inputs)
            if all(np.isfinite(array).all() for array in outputs.values()):
                made[name] = (inputs, outputs)
    return made


def _parity(
    judged: Judged, recipe: Recipe, proven: Proven, got: Mapping[str, Array], data: bytes
) -> dict[str, object]:
    results = [
        compare(name, array, got[name], recipe.tolerance) for name, array in proven.expected.items()
    ]
    return {
        "metric": judged.metric,
        "output": judged.output,
        "rows": judged.rows,
        "float32": round(judged.before, 6),
        "int8": round(judged.after, 6),
        "lost": round(judged.lost, 6),
        "budget": recipe.max_accuracy_drop,
        "bytes": {"float32": len(proven.data), "int8": len(data)},
        "outputs": {
            result.name: {
                "max_abs": round_up(result.max_abs),
                "label_agreement": result.label_agreement,
            }
            for result in results
        },
    }


def _provenance(recipe: Recipe, rows: Rows, sha256: str, made: Sequence[_Low]) -> dict[str, object]:
    further = {f"scheme_{one.scheme.runtime}": one.scheme.words for one in made[1:]}
    return {
        "sha256": sha256,
        "method": recipe.calibration_method,
        **rows.facts(),
        "scheme": made[0].scheme.words,
        **further,
    }
