"""Why PyTorch could not export a module, in one sentence: operator, module, source line, way out.

The exporter's own text says neither which layer nor which line; both are in the frames and nodes
that its exceptions hold on to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

OPERATOR = re.compile(r"aten(?:::|\.)([\w]+)")
DATA_DEPENDENT = re.compile(
    r"data.dependent|GuardOnDataDependent|dynamic control flow", re.IGNORECASE
)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_TORCH = str(Path(torch.__file__).parent)
REWRITES = {
    "_linalg_svd": "ONNX has no singular values: compute them before the model",
    "_linalg_eigh": "ONNX has no eigenvalues: compute them before the model",
    "linalg_qr": "ONNX has no QR decomposition: compute it before the model",
    "nonzero": "the number of results depends on the values: use torch.where with three arguments",
    "unique": "the number of results depends on the values: compute it after the model",
}
"""By operator: what people do instead."""


def explain(exc: BaseException, program: Any, arguments: tuple[Any, ...]) -> str:
    """One sentence about a failed export.

    Args:
        exc: what ``torch.onnx.export`` raised.
        program: the module or exported program.
        arguments: its example inputs; empty for a program.
    """
    causes = list(_chain(exc))
    text = "\n".join(str(cause) for cause in causes)
    operators = OPERATOR.findall(text)
    parts = [f"PyTorch {torch.__version__} cannot export this model: {first_lines(causes[-1])}"]
    place = _raised_in(causes, program) or _node_of(operators, program, arguments)
    if operators:
        parts.append(f"operator aten.{operators[0]}")
    if place:
        parts.append(place)
    elif own := _own_line(text):
        parts.append(own)
    if DATA_DEPENDENT.search(text):
        parts.append(
            "a branch depends on the values of a tensor: use torch.where or torch.cond instead"
        )
    else:
        known = next((REWRITES[name] for name in operators if name in REWRITES), "")
        parts.append(known or "replace that operation in the module, or bring an .onnx file")
    return "; ".join(parts)


def _raised_in(causes: list[BaseException], program: Any) -> str:
    """The innermost module of the user's whose forward was running, and the line of the user's."""
    if not isinstance(program, torch.nn.Module):
        return ""
    names = {id(module): name for name, module in program.named_modules()}
    place = ""
    for cause in causes:
        trace = cause.__traceback__
        while trace is not None:
            code, owner = trace.tb_frame.f_code, trace.tb_frame.f_locals.get("self")
            if id(owner) in names and _is_own(code.co_filename):
                module = f'module "{names[id(owner)]}" ({type(owner).__name__})'
                line = f"{Path(code.co_filename).name}:{trace.tb_lineno}"
                place = f"in {code.co_name} of {module}, {line}"
            trace = trace.tb_next
    return place


def _node_of(operators: list[str], program: Any, arguments: tuple[Any, ...]) -> str:
    """The node of the exported graph that has the operator: it knows its module and line."""
    try:
        if isinstance(program, torch.nn.Module):
            program = torch.export.export(program, arguments, strict=False)
        graphs = (program.graph, program.run_decompositions().graph)
    except Exception:  # the sentence is then shorter; the first failure is the one to tell
        return ""
    for name in operators:
        for graph in graphs:
            for node in graph.nodes:
                if f".{name}." in f"{node.target}.":
                    return _describe(node)
    return ""


def _describe(node: Any) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    lines = re.findall(r'File "([^"]+)", line (\d+), in (\w+)', node.meta.get("stack_trace") or "")
    own = [entry for entry in lines if _is_own(entry[0])]
    file, line, function = (own or lines or [("", 0, "")])[-1]
    path, kind = (str(stack[-1][0]), stack[-1][1]) if stack else ("", "")
    label = re.sub(r"^L\['self'\]\.?|^_export_root\.?", "", path)
    module = kind.rsplit(".", 1)[-1] if isinstance(kind, str) else kind.__name__
    at = f", {Path(file).name}:{line}" if file else ""
    return f'in {function or "forward"} of module "{label}" ({module}){at}'


def _own_line(text: str) -> str:
    own = [e for e in re.findall(r'File "([^"]+)", line (\d+), in (\w+)', text) if _is_own(e[0])]
    if not own:
        return ""
    file, line, function = own[-1]
    return f"in {function}, {Path(file).name}:{line}"


def _is_own(file: str) -> bool:
    """Whether a source file is the user's: no installed package, no generated code."""
    return "/site-packages/" not in file and not file.startswith((_TORCH, "<"))


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__


def first_lines(exc: BaseException) -> str:
    """The kind of an error and what it says first, without the advice that follows."""
    text = COLOURS.sub("", str(exc))
    if refused := re.search(
        r"[Uu]nsupported (?:global|GLOBAL|class|operand)[^\n]*?(?:GLOBAL )?([\w.]+)", text
    ):
        return f"{type(exc).__name__}: it holds more than tensors ({refused[1]})"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    count = 1 if DATA_DEPENDENT.search(text) else 2
    return f"{type(exc).__name__}: {' '.join(lines[:count])[:400]}"
