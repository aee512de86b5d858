"""Whether the target knows every operator: by ONNX's own definitions and by its runtime's list.

Exporters write what they could not convert into the file and call it done; the file then fails on
the device, or nowhere until it is loaded. Everything here is read off the graph; nothing is run.
"""

from __future__ import annotations

import ast
import re
from pathlib import PurePath

import onnx
from onnx import defs

from converters.errors import UnsupportedModelError
from converters.gate.rewrites import advice_for
from converters.targets.kernels import has_kernel, read_kernels
from converters.targets.table import DEFAULT_TARGET, TARGETS, Target
from converters.walk import nodes
from edged.store.onnx_check import MICROSOFT_OPERATORS

ONNX_DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}
RANDOM = {
    *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    *("Multinomial", "Bernoulli"),
}
"""Operators that answer at random: a trained model has none, a training-time layer has."""
MAX_LISTED = 8
"""Operators named in one message; a model that failed to convert may hold fifty."""


def refuse_operators(model: onnx.ModelProto, target: Target = TARGETS[DEFAULT_TARGET]) -> None:
    """Refuse operators that the target cannot compute, or that answer at random.

    Raises:
        UnsupportedModelError: lists each with its node, module and source line where the exporter
            left them, and what to do.
    """
    versions = {entry.domain: entry.version for entry in model.opset_import}
    versions.setdefault("", versions.get("ai.onnx", 1))
    found: dict[str, tuple[str, str]] = {}
    for node in nodes(model.graph):
        domain = "" if node.domain == "ai.onnx" else node.domain
        problem = _problem(domain, node.op_type, versions.get(domain, 1), target)
        if problem:
            label = f"{domain}:{node.op_type}" if domain else node.op_type
            found.setdefault(label, (place_of(node), problem))
        if domain == "":
            _refuse_random(model.graph, node)
            _refuse_locale(node)
    if not found:
        return
    listed = [
        f"{label} (at {place}): {problem}"
        for label, (place, problem) in sorted(found.items())[:MAX_LISTED]
    ]
    more = f"; and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
    raise UnsupportedModelError(
        f"operators that {target.title} (ONNX Runtime {target.onnxruntime}) does not compute: "
        f"{'; '.join(listed)}{more}"
    )


def _problem(domain: str, operator: str, version: int, target: Target) -> str:
    """What is wrong with an operator of that opset, and what to do; empty when nothing is."""
    if domain == "com.microsoft" and operator in MICROSOFT_OPERATORS:
        return ""
    if domain not in ONNX_DOMAINS or not defs.has(operator, domain):
        return f"operators that are not ONNX's own; {advice_for(operator)}"
    if not defs.has(operator, version, domain):
        first = min(s.since_version for s in _all_versions(operator, domain))
        return f"ONNX has it from opset {first} on; ask for --opset {first}, or replace it"
    schema = defs.get_schema(operator, version, domain)
    if schema.deprecated:
        return f"ONNX took it back in opset {schema.since_version}; export with a later exporter"
    table = read_kernels(target.onnxruntime)
    # A function is made of other operators, and a constant is folded: neither needs a kernel.
    is_made = schema.has_function or schema.has_context_dependent_function
    if table is None or is_made or operator == "Constant":
        return ""
    if has_kernel(table, domain, operator, schema.since_version):
        return ""
    return f"that runtime has no kernel for it; {advice_for(operator)}"


def _all_versions(operator: str, domain: str) -> list[defs.OpSchema]:
    every = defs.get_all_schemas_with_history()
    return [s for s in every if s.name == operator and s.domain == domain]


def _refuse_random(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    is_dropout = node.op_type == "Dropout" and len(node.input) > 2 and bool(node.input[2])
    if is_dropout:
        value = next((t for t in graph.initializer if t.name == node.input[2]), None)
        is_dropout = value is not None and bool(onnx.numpy_helper.to_array(value).any())
    if is_dropout or node.op_type in RANDOM:
        what = "Dropout in training mode" if is_dropout else node.op_type
        raise UnsupportedModelError(
            f"{what} (at {place_of(node)}): the model would answer at random; call eval() before "
            "exporting, and leave augmentation and noise layers out"
        )


def _refuse_locale(node: onnx.NodeProto) -> None:
    """A locale that a slim image lacks keeps the whole model from loading (sklearn-onnx#1019)."""
    if node.op_type != "StringNormalizer":
        return
    locale = next(
        (a.s.decode("utf-8", "replace") for a in node.attribute if a.name == "locale"), ""
    )
    if locale not in ("C", "POSIX"):
        raise UnsupportedModelError(
            f'StringNormalizer (at {place_of(node)}) asks for the locale "{locale or "en_US"}", '
            "which slim images and most devices do not have: the model would not load there. "
            "Convert it with the option locale C"
        )


def place_of(node: onnx.NodeProto) -> str:
    """Where an operator comes from: node, module and source line as far as the exporter told."""
    name = node.name or next(iter(node.output), "")
    parts = [f'"{name}"']
    notes = {entry.key: entry.value for entry in node.metadata_props}
    scopes = notes.get("pkg.torch.onnx.name_scopes", "")
    try:
        modules = [scope for scope in ast.literal_eval(scopes) if scope] if scopes else []
    except (ValueError, SyntaxError):
        modules = []
    if modules:
        parts.append(f"module {modules[-2] if len(modules) > 1 else modules[-1]}")
    lines = re.findall(r'File "([^"]+)", line (\d+)', notes.get("pkg.torch.onnx.stack_trace", ""))
    if lines:
        file, line = lines[-1]
        parts.append(f"{PurePath(file).name}:{line}")
    return ", ".join(parts)
