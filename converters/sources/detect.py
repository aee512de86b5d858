"""Which kind of source this is, told from its content first and its ending second.

Never loads anything: a model file may be a program. The signs themselves are rows of ``kinds``.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from converters.errors import ConversionError, UnsupportedModelError
from converters.recipe import Recipe, is_factory
from converters.sources.kinds import ADVICE, BY_NAME, FACTORY, KINDS, SourceKind
from converters.sources.look import Look, look

MODULE_CAP_BYTES = 1 << 20
"""Largest Python file whose imports are read: longer ones are not written by hand."""


@dataclass(frozen=True)
class Detected:
    """What a source is.

    Args:
        framework: which converter takes it (a name of ``kinds``).
        runs_code: why opening it can run code; empty when it cannot.
    """

    framework: str
    runs_code: str = ""


def detect(recipe: Recipe) -> Detected:
    """Tell the framework of a source without opening it as what it is.

    Raises:
        UnsupportedModelError: nothing here takes it; says what to do.
        ConversionError: it is not there, or ``kind`` is not one that exists.
    """
    if recipe.kind != "auto" and recipe.kind not in BY_NAME:
        raise ConversionError(f'no kind "{recipe.kind}"; there are {", ".join(BY_NAME)}')
    if is_factory(recipe.source):
        return Detected(_guess_factory(recipe) if recipe.kind == "auto" else recipe.kind, FACTORY)
    path = Path(recipe.source)
    if not path.exists():
        raise ConversionError(
            f'source "{path}": no such file (a factory is written module:factory)'
        )
    try:
        seen = look(path)
    except OSError as exc:
        raise ConversionError(f'source "{path}": {exc.strerror or exc}') from exc
    kind = BY_NAME[recipe.kind] if recipe.kind != "auto" else _guess(seen)
    if seen.is_zip and not seen.names:
        raise ConversionError(f'source "{path.name}": a zip archive that is broken or cut short')
    if refusal := kind.refuse(seen):
        raise UnsupportedModelError(f'source "{path.name}": {refusal}')
    return Detected(kind.name, kind.runs_code(seen))


def _guess(seen: Look) -> SourceKind:
    by_content = (kind for kind in KINDS if kind.recognise(seen))
    by_ending = (kind for kind in KINDS if seen.suffix in kind.suffixes and not seen.is_folder)
    kind = next(by_content, None) or next(by_ending, None)
    if kind is None:
        taken = sorted(suffix for kind in KINDS for suffix in kind.suffixes)
        raise UnsupportedModelError(
            f'source "{seen.path.name}": {_advice(seen)} (taken: {", ".join(taken)}, '
            "module:factory; or say --kind)"
        )
    return kind


def _advice(seen: Look) -> str:
    if seen.is_folder and "genai_config.json" in seen.names:
        return "a folder of ONNX Runtime GenAI: edged-convert texts FOLDER makes a bundle of it"
    if seen.is_folder:
        return "a folder that no framework is known for"
    return ADVICE.get(seen.suffix, "not a kind that is known here")


def _guess_factory(recipe: Recipe) -> str:
    """The weights' kind where they have one; else the framework that the module imports.

    The module is read, not imported. PyTorch where nothing is clear.
    """
    if recipe.weights is not None and (by_weights := _kind_of_weights(Path(recipe.weights))):
        return by_weights
    module = Path(*recipe.source.partition(":")[0].split("."))
    for path in (module.with_suffix(".py"), module / "__init__.py"):
        try:
            if path.stat().st_size > MODULE_CAP_BYTES:
                continue
            imported = _imports(path.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for kind in KINDS:
            if imported.intersection(kind.imports):
                return kind.name
    return "torch"


def _kind_of_weights(path: Path) -> str:
    """Only a Lightning checkpoint tells more than that it is weights."""
    kind = BY_NAME["lightning"]
    try:
        return kind.name if kind.recognise(look(path)) else ""
    except OSError:
        return ""  # the weights are read, and missed, later


def _imports(text: bytes) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names
