"""Which operators a target's ONNX Runtime can compute on a CPU, asked of that very version.

The tables ``kernels-VERSION.json`` are what the runtime itself listed (``list_kernels`` below, run
in an environment of that version); nothing in them is written by hand.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

Ranges = dict[str, dict[str, list[list[int]]]]
"""Domain, operator: ``[first, last]`` opset versions of each kernel; last is 0 where it is open."""


@functools.cache
def read_kernels(version: str) -> Ranges | None:
    """The table of one version of ONNX Runtime; None where there is none."""
    path = Path(__file__).with_name(f"kernels-{version}.json")
    if not path.exists():
        return None
    table: Ranges = json.loads(path.read_text("ascii"))["kernels"]
    return table


def has_kernel(table: Ranges, domain: str, operator: str, since: int) -> bool:
    """Whether a kernel computes the operator as it is since that opset version."""
    ranges = table.get(domain, {}).get(operator, [])
    return any(first <= since and (last == 0 or since <= last) for first, last in ranges)


def list_kernels(definitions: Any) -> Ranges:
    """A runtime's own list in the form of the tables.

    Args:
        definitions: what ``get_all_opkernel_def()`` of ONNX Runtime gives.
    """
    found: dict[str, dict[str, set[tuple[int, int]]]] = {}
    for kernel in definitions:
        known = kernel.domain in ("", "ai.onnx.ml", "com.microsoft")
        if kernel.provider == "CPUExecutionProvider" and known:
            first, last = kernel.version_range
            ranges = found.setdefault(kernel.domain, {}).setdefault(kernel.op_name, set())
            ranges.add((first, 0 if last >= 2**31 - 1 else last))
    return {
        domain: {name: [list(pair) for pair in sorted(ranges)] for name, ranges in ops.items()}
        for domain, ops in found.items()
    }
