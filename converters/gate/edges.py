"""Whether the edge cases that the framework takes come out the same.

Refuses where a made row lies within what the user's samples hold; else it is a remark, because such
rows may never come.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from converters.edges import MISSING, PROMISED, Edge, is_within
from converters.elements import is_float, is_text, settle_tolerance
from converters.errors import ConversionError, ParityError
from converters.gate.checks import Checks
from converters.parity import as_output, compare, find_ties
from converters.session import Run
from edged.manifest import Tolerance
from edged.tensors import Array


def prove_edges(
    edges: Mapping[str, Edge],
    run: Run,
    samples: Mapping[str, Array],
    *,
    tolerance: Tolerance,
    label_of: Mapping[str, str],
    checks: Checks,
    asked_nan: bool = True,
) -> dict[str, Edge]:
    """Hold the edge cases against the framework's answers.

    Args:
        edges: rows and answers under the bundle's names.
        run: the converted model.
        samples: what the rows were made from.
        tolerance: as in the parity gate.
        label_of: outputs that are the best class of another output.
        checks: gets what came of it.
        asked_nan: whether the framework was asked for rows of NaN.

    Returns:
        Those on which both agree and no class is tied: they may travel.

    Raises:
        ParityError: a row within the samples' range, or of words that the bundle says devices may
            send, comes out otherwise.
    """
    start = time.perf_counter()
    agreed: dict[str, Edge] = {}
    differing: list[str] = []
    for name, (inputs, answers) in edges.items():
        beyond, is_tied, expected = _hold(run(inputs), answers, tolerance, label_of)
        if beyond and (name in PROMISED or is_within(inputs, samples)):
            raise ParityError(
                f'edge case "{name}" (one row made of your samples\' {name} values): {beyond}; '
                "say --edges none if such rows cannot come"
            )
        if beyond:
            differing.append(name)
        elif not is_tied:
            agreed[name] = (inputs, expected)
    if edges:
        detail = f"rows of {', '.join(edges)} give the framework's answers"
        if asked_nan and MISSING not in edges and any(map(is_float, samples.values())):
            detail += "; the framework does not take NaN"
        if not differing:
            checks.add("edges", "passed", detail, time.perf_counter() - start)
    if differing:
        detail = (
            f"rows of {', '.join(differing)} values come out otherwise than in the framework; "
            "your samples hold no such values: do not send them"
        )
        checks.add("edges", "remark", detail, time.perf_counter() - start)
    return agreed


def _hold(
    got: Mapping[str, Array],
    answers: Mapping[str, Array],
    tolerance: Tolerance,
    label_of: Mapping[str, str],
) -> tuple[str, bool, dict[str, Array]]:
    """What differs (or nothing), whether a class is tied, and the answers as the outputs are."""
    try:
        expected = {name: as_output(name, array, got[name]) for name, array in answers.items()}
        is_tied = any(find_ties(expected[s], tolerance).any() for s in label_of.values())
        for name, array in expected.items():
            if is_tied and name in label_of:
                continue
            result = compare(name, array, got[name], settle_tolerance(array, tolerance))
            if result.rows_beyond:
                gap = f"the framework and the converted model differ by {result.max_abs:.3g}"
                if is_text(array):
                    gap = "the framework and the converted model give different strings"
                return f'output "{name}": {gap}', is_tied, expected
    except (ParityError, ConversionError) as exc:
        return exc.message, False, {}
    return "", is_tied, expected
