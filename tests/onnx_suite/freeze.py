"""Write ``passes.txt``, the cases that ONNX Runtime alone answers as the onnx package expects, and
``left_out.txt``, the others with the reason.

    python -m tests.onnx_suite.freeze

A case is in the list when its tensors are of the protocol's types, ONNX Runtime loads it, every
answer is within the package's own tolerances, and a second session gives the same bits (what draws
random numbers does not).
"""

from __future__ import annotations

import collections
import platform
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from tests.onnx_suite.cases import Case, differences, every, strange_types
from tests.onnx_suite.raw import Raw, same

PASSES, LEFT_OUT, NOT_SERVED = (
    Path(__file__).with_name(name) for name in ("passes.txt", "left_out.txt", "not_served.txt")
)
_PLACE = re.compile(r" ?\S*/onnxruntime/core/\S*|\s+$")
"""Where in its own sources ONNX Runtime refuses."""


def verdict(case: Case) -> str:
    """Why a case is not in the list; empty when it is."""
    model = case.model()
    if why := strange_types(model):
        return f"a type that no protocol carries: {why}"
    data, packed = case.data(model), model.SerializeToString()
    try:
        raw, again = Raw(packed), Raw(packed)
    except Exception as exc:
        return f"not loaded by ONNX Runtime: {_line(exc)}"
    for inputs, expected in data:
        try:
            found = raw.run(inputs)
            repeated = again.run(inputs)
        except Exception as exc:
            return f"not run by ONNX Runtime: {_line(exc)}"
        if why := differences(case, expected, found):
            return f"answered otherwise by ONNX Runtime: {why}"
        if not all(map(same, found, repeated)):
            return "not repeated: it draws random numbers"
    return ""


def _line(exc: Exception) -> str:
    return " ".join(_PLACE.sub("", str(exc)).split())[:200]


def versions() -> str:
    """Of the two that have a say in the list."""
    return f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}"


def read() -> list[str]:
    """The names in the list."""
    return [line for line in PASSES.read_text().splitlines() if not line.startswith("#")]


def not_served() -> dict[str, str]:
    """What of the list no bundle of ours holds, with the reason; written by hand."""
    lines = [line for line in NOT_SERVED.read_text().splitlines() if not line.startswith("#")]
    return dict(line.split(": ", 1) for line in lines)


def frozen_versions() -> str:
    """Of all that had a say when the list was made."""
    return PASSES.read_text().splitlines()[1].removeprefix("# ")


def main() -> int:
    """Make the list."""
    passed, left_out = [], dict[str, str]()
    for case in every():
        why = verdict(case)
        if why:
            left_out[case.name] = why
        else:
            passed.append(case.name)
    reasons = collections.Counter(why.split(":")[0] for why in left_out.values())
    lines = [
        "# What ONNX Runtime alone passes of onnx.backend.test; python -m tests.onnx_suite.freeze",
        f"# {versions()}",
        f"# numpy {np.__version__}, Python {platform.python_version()}, {platform.machine()}",
        f"# {len(passed)} of {len(passed) + len(left_out)}; not in the list:",
        *(f"# {count:4} {why}" for why, count in reasons.most_common()),
        *passed,
    ]
    PASSES.write_text("\n".join(lines) + "\n")
    rows = [f"{name}: {why}" for name, why in left_out.items()]
    LEFT_OUT.write_text("\n".join(rows) + "\n")
    print("\n".join(lines[: 4 + len(reasons)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
