"""Which recipes take a model of strings or bfloat16: those that leave its numbers as they are."""

from __future__ import annotations

import onnx

from converters.elements import SPECIAL
from converters.errors import UnsupportedModelError
from converters.graph import dtype_of


def refuse_special(model: onnx.ModelProto, precision: str, *, bakes: bool) -> tuple[str, ...]:
    """Refuse what cannot be proven for such inputs and outputs.

    Args:
        model: as it will be packed.
        precision: as in the recipe.
        bakes: whether pre-processing goes into the model.

    Returns:
        The dtypes of that kind that it takes or gives.

    Raises:
        UnsupportedModelError: names the input or output, its type and what was asked.
    """
    found = []
    for kind, values in (("input", model.graph.input), ("output", model.graph.output)):
        for value in values:
            dtype = dtype_of(value)
            if dtype not in SPECIAL:
                continue
            found.append(dtype)
            asked = f"--precision {precision}" if precision != "float32" else "bake"
            if precision != "float32" or bakes:
                raise UnsupportedModelError(
                    f'{kind} "{value.name}" is {dtype}: {asked} is for models that take and give '
                    "numbers of NumPy's types; leave it out, or cut the model there"
                )
    return tuple(found)
