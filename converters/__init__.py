"""The offline converter: trained models in, signed bundles with proven numbers out.

``converters.convert(Recipe(...), output)`` is the whole Python interface; ``edged-convert`` is the
same thing with flags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converters.errors import ConversionError, ParityError, UnsupportedModelError

if TYPE_CHECKING:
    from converters.recipe import Recipe
    from converters.workflow import Report, convert

__all__ = [
    "ConversionError",
    "ParityError",
    "Recipe",
    "Report",
    "UnsupportedModelError",
    "convert",
]


def __getattr__(name: str) -> Any:
    """Import numpy, onnx and onnxruntime only for those who convert; ``--help`` needs none."""
    if name == "Recipe":
        from converters import recipe  # noqa: PLC0415

        return recipe.Recipe
    if name in {"Report", "convert"}:
        from converters import workflow  # noqa: PLC0415

        return getattr(workflow, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What completes in a shell: the public names, loaded or not."""
    return sorted({*globals(), *__all__})
