"""What of an answer is a value by itself: each label, number or flag, and where it stands in a row.

Decides by the model's outputs and what the operator wants shown, as ``outputs.py`` does, so that it
is known before the first answer what there will ever be. Source of that need: Sparkplug 3.0, 6.4.19
"NBIRTH" and 6.4.20 "DBIRTH".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from edged.errors import FieldError
from edged.manifest import Manifest
from edged.processing.outputs import shown_outputs, shows_ranking
from edged.specs import OutputSpec
from edged.tensors import DTYPES, TensorSpec

MOST_READINGS = 64
_MOST_ENTRIES = 16
"""Of one output; a longer list is no set of values."""
ReadingKind = Literal["number", "whole", "large", "flag", "text"]
"""``large`` are whole numbers from 0 that 63 bits do not hold."""
_KINDS: Mapping[str, ReadingKind] = {"f": "number", "i": "whole", "u": "whole", "b": "flag"}


class Reading(NamedTuple):
    """One value of an answer.

    Args:
        name: unique in an answer.
        kind: what it is.
        output: under which key it stands in a row.
        place: its number in the list there; None = it is no list.
    """

    name: str
    kind: ReadingKind
    output: str
    place: int | None = None

    def of(self, row: Mapping[str, Any]) -> Any:
        """The value in a row; None where there is none."""
        found = row.get(self.output)
        if self.place is None:
            return found
        if isinstance(found, list) and self.place < len(found):
            return found[self.place]
        return None


def readings_of(spec: OutputSpec, manifest: Manifest) -> tuple[Reading, ...]:
    """All the values of an answer's row.

    Raises:
        FieldError: there is none.
    """
    if shows_ranking(spec, manifest):
        return Reading("label", "text", "label"), Reading("score", "number", "score")
    texts = {name for name, work in manifest.output_processing.items() if work.text is True}
    found: list[Reading] = []
    for output in shown_outputs(spec, manifest):
        if output.name in texts:
            found.append(Reading(output.name, "text", output.name))
        else:
            found += _of_output(output)
    if not found:
        text = f'no output of model "{manifest.name}" is a label, a text or a few numbers a row'
        raise FieldError("sparkplug", text)
    return tuple(found[:MOST_READINGS])


def _of_output(output: TensorSpec) -> list[Reading]:
    if output.dtype not in DTYPES:
        return []
    kind = _KINDS.get(DTYPES[output.dtype].numpy.kind)
    if kind is None:
        return []
    kind = "large" if output.dtype == "uint64" else kind
    axes: tuple[int | str, ...] = output.shape[1:] if output.is_batched else output.shape
    if not axes:
        return [Reading(output.name, kind, output.name)]
    length = axes[0]
    if len(axes) > 1 or not isinstance(length, int) or length > _MOST_ENTRIES:
        return []
    name = output.name
    return [Reading(f"{name}/{place}", kind, name, place) for place in range(length)]
