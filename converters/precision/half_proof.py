"""Whether a model in float16 still gives the framework's answers: on hardware that means it.

A CPU computes float16 in float32 and leaves the casts out, so that nothing seems lost. The numbers
are therefore those of a twin whose rounding is arithmetic that no optimiser removes.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from converters import graph
from converters.errors import ParityError
from converters.gate.checks import Checks
from converters.naming import name_inner_values
from converters.parity import OutputParity, as_output, judge, round_up
from converters.precision.half import Halved, halve
from converters.session import open_session
from converters.sources.base import run_in_rows
from converters.targets.table import Target
from edged.manifest import Tolerance
from edged.tensors import Array

NAME = "float16 rounding"
MAX_TOLD, MAX_KEPT = 6, 256
"""Islands in one line of a report, and in a manifest."""


def make_half(
    model: onnx.ModelProto,
    samples: Mapping[str, Array],
    reference: Mapping[str, Array],
    *,
    tolerance: Tolerance,
    max_drop: float,
    label_of: Mapping[str, str],
    target: Target,
    checks: Checks,
) -> tuple[onnx.ModelProto, dict[str, object]]:
    """Convert a settled float32 model, and hold its rounding against the framework's answers.

    Args:
        model: stays as it is.
        samples: real inputs, rows first.
        reference: the framework's answers.
        tolerance: what they may differ by.
        max_drop: share of rows whose best class may be another one.
        label_of: outputs that are the best class of another output.
        target: must compute the result.
        checks: gets what was seen.

    Returns:
        The model in float16, and what it took and lost, for the manifest.

    Raises:
        UnsupportedModelError: nothing in the model gains from it.
        ParityError: too much is lost.
    """
    with checks.step(NAME) as said:
        made = halve(model, samples)
        got = run_in_rows(open_session(graph.serialize(made.rounded)), samples, "rows")
        expected = {name: as_output(name, array, got[name]) for name, array in reference.items()}
        try:
            results = judge(expected, got, tolerance, label_of)
        except ParityError as exc:
            raise ParityError(
                f"float16 loses too much ({_count(made)}): {exc.message}; or keep precision float32"
            ) from exc
        said += [_judge_labels(made, results, max_drop), _tell_islands(made)]
    half = graph.clean(made.model, None, target)
    name_inner_values(half)
    return half, {
        "nodes": made.nodes,
        "nodes_float16": made.half,
        "islands": [
            {"node": one.node, "operator": one.operator, "reason": one.reason}
            for one in made.islands[:MAX_KEPT]
        ],
        "outputs": {
            result.name: {
                "max_abs": round_up(result.max_abs),
                "label_agreement": result.label_agreement,
            }
            for result in results
        },
    }


def _judge_labels(made: Halved, results: tuple[OutputParity, ...], max_drop: float) -> str:
    """What is lost, in words; refused where too many best classes are other ones."""
    lost = max(result.max_abs for result in results)
    said = f"{_count(made)}: largest difference {lost:.2g}"
    shares = [r.label_agreement for r in results if r.label_agreement is not None]
    if not shares:
        return said
    if 1 - min(shares) > max_drop:
        raise ParityError(
            f"float16 loses too much ({_count(made)}): the best class is another one on "
            f"{1 - min(shares):.2%} of {results[0].rows} rows, {max_drop:.2%} may be "
            "(--max-accuracy-drop); keep precision float32"
        )
    return f"{said}, best class as before on {min(shares):.2%} of rows"


def _count(made: Halved) -> str:
    return f"{made.half} of {made.nodes} nodes in float16"


def _tell_islands(made: Halved) -> str:
    """The nodes that stay, by reason."""
    if not made.islands:
        return "none behind the first layer stays in float32"
    listed = [f'{one.operator} "{one.node}" {one.reason}' for one in made.islands[:MAX_TOLD]]
    more = len(made.islands) - len(listed)
    return f"in float32 stay {'; '.join(listed)}{f'; and {more} more' if more else ''}"
