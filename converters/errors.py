"""The words for what can go wrong while converting; codes as in ``edged.errors``.

ConversionError
├─ UnsupportedModelError   an operator, step or shape that a bundle cannot carry
└─ ParityError             the converted model does not give the framework's numbers
"""

from __future__ import annotations

from edged.errors import Code, EdgedError


class ConversionError(EdgedError):
    """A source could not become a bundle; says which part and what to do."""

    code = Code.INVALID_ARGUMENT


class UnsupportedModelError(ConversionError):
    """The model holds something that a bundle cannot carry; names the operator or step."""


class ParityError(ConversionError):
    """The converted model's outputs are not the framework's; names the worst row."""

    code = Code.FAILED_PRECONDITION
