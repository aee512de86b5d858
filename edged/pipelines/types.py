"""What flows between the steps of a pipeline, as far as it is known before anything runs.

Pure. A free axis has a name; two axes of one name have one length in one request. What was made
*for each* item of a fan-out is a list of tensors, all of one dtype and rank.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edged.errors import FieldError
from edged.tensors import DTYPES, Axis, TensorSpec

_TENSOR = re.compile(r"\s*([a-z0-9]+)\s*\[([a-z0-9_,\s]*)\]\s*", re.ASCII)
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,31}", re.ASCII)
MOST_AXES = 8
MOST_LENGTH = 2**31


@dataclass(frozen=True, slots=True)
class ValueType:
    """The type of one value.

    Args:
        dtype: a key of DTYPES.
        shape: one entry an axis, a number or the name of a free axis.
        each: the step whose items it was made for; empty for one tensor.
        maybe: the step that may be skipped, so that the value is missing; empty when it never is.
    """

    dtype: str
    shape: tuple[Axis, ...]
    each: str = ""
    maybe: str = ""

    def __str__(self) -> str:
        text = f"{self.dtype}[{','.join(str(axis) for axis in self.shape)}]"
        return f'{text} for each item of "{self.each}"' if self.each else text

    def spec(self, name: str) -> TensorSpec:
        """The same as a signature, of one item where there are several."""
        return TensorSpec(name, self.dtype, self.shape)

    def alone(self) -> ValueType:
        """Of one item."""
        return replace(self, each="", maybe="")


def type_of(spec: TensorSpec) -> ValueType:
    """A signature's type.

    Raises:
        FieldError: a dtype that no step takes; ``path`` is the tensor's name.
    """
    if spec.dtype not in DTYPES:
        raise FieldError(
            spec.name, f"is {spec}; pipelines carry numbers of one of {', '.join(DTYPES)}"
        )
    return ValueType(spec.dtype, spec.shape)


def parse_type(text: str, path: str) -> ValueType:
    """Read ``float32[batch,4]``.

    Raises:
        FieldError: at ``path``: not a type; says what was expected.
    """
    match = _TENSOR.fullmatch(text)
    if match is None:
        raise FieldError(path, 'expected a dtype and a shape like "float32[batch,4]"')
    dtype = match[1]
    if dtype not in DTYPES:
        raise FieldError(path, f'"{dtype}" is no dtype; expected one of {", ".join(DTYPES)}')
    words = [word.strip() for word in match[2].split(",")] if match[2].strip() else []
    if len(words) > MOST_AXES:
        raise FieldError(path, f"has {len(words)} axes; the limit is {MOST_AXES}")
    shape: list[Axis] = []
    for word in words:
        if word.isdigit() and 1 <= int(word) <= MOST_LENGTH:
            shape.append(int(word))
        elif _NAME.fullmatch(word):
            shape.append(word)
        else:
            raise FieldError(path, f'"{word[:40]}" is no axis; expected a length or a name')
    return ValueType(dtype, tuple(shape))


def bind_call(
    owner: str,
    wanted: Sequence[TensorSpec],
    given: Mapping[str, ValueType],
) -> dict[str, Axis]:
    """Hold the values that a step is given against the inputs that it wants.

    Args:
        owner: who wants them, for messages.
        wanted: the inputs.
        given: a type for each of them.

    Returns:
        What each free axis of the inputs is in this pipeline.

    Raises:
        FieldError: a dtype, a rank or a length does not fit; ``path`` is the input's name.
    """
    bound: dict[str, Axis] = {}
    for spec in wanted:
        value = given[spec.name]
        if value.dtype != spec.dtype:
            hint = f"; convert it with compute: {spec.dtype}(…)" if spec.dtype in DTYPES else ""
            raise FieldError(spec.name, f"is {value.alone()}; {owner} wants {spec}{hint}")
        if len(value.shape) != len(spec.shape):
            raise FieldError(spec.name, f"is {value.alone()}; {owner} wants {spec}")
        for index, (want, have) in enumerate(zip(spec.shape, value.shape, strict=True)):
            if isinstance(want, str):
                if bound.setdefault(want, have) != have:
                    raise FieldError(
                        spec.name,
                        f'is {value.alone()}; axis "{want}" of {owner} is {bound[want]} elsewhere',
                    )
            elif want != have:
                free = (
                    f'; axis {index} must be known to be {want}: write it where "{have}" comes from'
                    if isinstance(have, str)
                    else ""
                )
                raise FieldError(spec.name, f"is {value.alone()}; {owner} wants {spec}{free}")
    return bound


def result_shape(shape: Sequence[Axis], bound: Mapping[str, Axis], step: str) -> tuple[Axis, ...]:
    """An output's shape in the pipeline: free axes are those of the inputs, or the step's own.

    Those that are its own whatever the inputs' are called begin with a star.
    """
    return tuple(
        axis
        if isinstance(axis, int)
        else own_axis(step, axis[1:])
        if axis.startswith("*")
        else bound.get(axis, own_axis(step, axis))
        for axis in shape
    )


def own_axis(step: str, axis: str) -> str:
    """A name for an axis whose length only the step itself knows."""
    return f"{step}_{axis}"[:32]
