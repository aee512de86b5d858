"""The words for what can go wrong while converting; codes as in ``edged.errors``.

ConversionError
├─ UnsupportedModelError   an operator, step or shape that a bundle cannot carry
├─ ParityError             the converted model does not give the framework's numbers
├─ EngineError             no engine came of it, or another one than was asked for
└─ NoDeviceError           what an engine is built with is not on this machine
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


class EngineError(ConversionError):
    """TensorRT could not build what was asked, or built something else; nothing was written."""

    code = Code.FAILED_PRECONDITION


class NoDeviceError(ConversionError):
    """TensorRT, its driver, a GPU or a way to CUDA is not on this machine; says which."""

    code = Code.UNAVAILABLE
