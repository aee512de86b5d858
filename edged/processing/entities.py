"""What of an answer Home Assistant can show: each number or label with where it stands in the JSON.

Decides by the model's outputs and what the operator wants shown, as ``outputs.py`` does; nothing of
topics. Source: home-assistant.io, "MQTT", "MQTT sensor".
"""

from __future__ import annotations

import re
from typing import Any

from edged.errors import FieldError
from edged.manifest import Manifest
from edged.processing.outputs import shown_outputs, shows_ranking
from edged.specs import OutputSpec
from edged.tensors import TensorSpec

MOST_ENTITIES = 32
_MOST_ENTRIES = 16
"""Of one output; a longer list is no set of sensors."""
_NAME = re.compile(r"[A-Za-z0-9_./:-]{1,64}")
"""Others could mean something else inside a template."""


def entities_of(spec: OutputSpec, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Components by their keys, without unique ids.

    Raises:
        FieldError: nothing of the answer is a label or a number.
    """
    if shows_ranking(spec, manifest):
        return {
            "label": _sensor("label", "value_json.label"),
            "score": _sensor("score", "value_json.score", is_number=True),
        }
    found: dict[str, dict[str, Any]] = {}
    for output in shown_outputs(spec, manifest):
        if _NAME.fullmatch(output.name):
            found |= _of_output(output)
    if not found:
        raise FieldError(
            "discovery", f'no output of model "{manifest.name}" is a label or a few numbers a row'
        )
    return dict(list(found.items())[:MOST_ENTITIES])


def _of_output(output: TensorSpec) -> dict[str, dict[str, Any]]:
    place = f"value_json['{output.name}']"
    axes = output.shape[1:] if output.is_batched else output.shape
    if not axes:
        return {output.name: _sensor(output.name, place, is_number=True)}
    if len(axes) == 1 and isinstance(axes[0], int) and axes[0] <= _MOST_ENTRIES:
        names = [f"{output.name} {number}" for number in range(axes[0])]
        return {
            name: _sensor(name, f"{place}[{number}]", is_number=True)
            for number, name in enumerate(names)
        }
    return {}


def _sensor(name: str, place: str, *, is_number: bool = False) -> dict[str, Any]:
    found = {"platform": "sensor", "name": name, "value_template": f"{{{{ {place} }}}}"}
    return found | {"state_class": "measurement"} if is_number else found
