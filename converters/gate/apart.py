"""Whether the packed file loads and answers in an empty environment of the target.

Decides what a missing environment means: the check is told as not made, unless it is required.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from converters.errors import ConversionError, ParityError
from converters.gate.checks import Checks
from converters.parity import compare
from converters.targets.environment import Ask, Mode, NotCheckedError
from converters.targets.table import Target
from edged.manifest import Tolerance
from edged.tensors import Array

NAME = "empty environment"
MAX_INPUT_BYTES = 4 << 20
"""Of the rows that are run there: eight pictures show another runtime's numbers as well as twenty,
and the gate must stay quicker than the export."""


def prove_apart(
    target: Target,
    model: bytes,
    golden: Mapping[str, Array],
    *,
    tolerances: Mapping[str, Tolerance],
    mode: Mode,
    ask: Ask,
    checks: Checks,
) -> None:
    """Run the golden rows there and hold the answers against the framework's.

    Args:
        target: whose ONNX Runtime it is.
        model: the bytes that are packed.
        golden: the golden file's tensors, ``in.NAME`` and ``out.NAME``.
        tolerances: by output, as the bundle promises them.
        mode: ``auto`` notes why it was not made, ``require`` refuses then, ``off`` leaves it.
        ask: runs a model there.
        checks: gets what came of it.

    Raises:
        UnsupportedModelError: the model does not load or run there.
        ParityError: it answers otherwise there.
        ConversionError: it is required and cannot be made.
    """
    start = time.perf_counter()
    golden = _few(golden)
    inputs = {k.removeprefix("in."): array for k, array in golden.items() if k.startswith("in.")}
    try:
        probed = ask(model, inputs)
    except NotCheckedError as exc:
        if mode == "require":
            raise ConversionError(f"--empty-env require: {exc}") from exc
        checks.add(NAME, "not checked", str(exc), time.perf_counter() - start)
        return
    where = f"Python {probed.python}, ONNX Runtime {probed.onnxruntime}, LANG=C"
    rows = 0
    for key, expected in golden.items():
        if not key.startswith("out."):
            continue
        name = key.removeprefix("out.")
        result = compare(name, expected, probed.outputs[name], tolerances[name])
        rows = result.rows
        if result.rows_beyond:
            raise ParityError(
                f'output "{name}": in an empty environment of {target.title} ({where}) '
                f"{result.rows_beyond} of {result.rows} golden rows are beyond the tolerance "
                f"(largest difference {result.max_abs:.3g}), though the converter's own runtime "
                "gives them; another --opset may avoid the operator that differs"
            )
    detail = f"loads and gives the numbers of {rows} golden rows ({where})"
    checks.add(NAME, "passed", detail, time.perf_counter() - start)


def _few(golden: Mapping[str, Array]) -> dict[str, Array]:
    """The last rows, the edge cases among them, where all of them are much."""
    size = sum(array.nbytes for key, array in golden.items() if key.startswith("in."))
    lengths = {array.shape[:1] for array in golden.values()}
    if size <= MAX_INPUT_BYTES or len(lengths) != 1 or lengths == {()}:
        return dict(golden)
    (rows,) = next(iter(lengths))
    wanted = max(8, MAX_INPUT_BYTES * rows // size)
    return {key: array[-wanted:] for key, array in golden.items()}
